"""Results by patient of slides that are bags: how they are split, and what is refused before a training."""

import pytest
from omegaconf import OmegaConf

from milpath.data.datamodule import BagDataModule
from milpath.data.store.stored_bags import StoredBags
from milpath.runs.familiar_bags import fitting_probe
from milpath.runs.patient_results import require_patients


@pytest.fixture
def data(make_store):
    """Two slides of each of 20 patients, with results by patient."""

    def make(labels=None, aggregate="mean", **options):
        columns = {"patient_id": [f"P{n // 2:02}" for n in range(40)], "site": [n % 5 for n in range(40)]}
        path = make_store([2] * 40, labels or [n // 2 % 2 for n in range(40)], (4,), **columns)
        made = BagDataModule(StoredBags(path), aggregate=aggregate, **options)
        made.setup()
        return made

    return make


def test_a_patient_is_in_one_split_and_slides_are_not_counted_as_independent(data):
    made = data()
    require_patients(made)
    table = made.splits_table()
    assert (table.assign(patient=made.label_frame["patient_id"]).groupby("patient")["split"].nunique() == 1).all()
    assert (made.groups, table["group"].nunique()) == (None, 20)
    probe = fitting_probe(OmegaConf.create({"decision": {"refer_unfamiliar": 0.01}}), made)
    assert probe.num_groups == 4 < len(made.bag_ids("val")) == 8


@pytest.mark.parametrize(
    ("options", "message"),
    [
        (
            {"group_column": "site"},
            "'P00' and 15 more has .* 'split': .*; data.group_column=patient_id keeps the slides",
        ),
        ({"labels": [n % 2 for n in range(40)]}, "different values of 'label': .*; a patient has one label"),
    ],
)
def test_what_cannot_be_put_together_is_refused_before_the_training(data, options, message):
    with pytest.raises(ValueError, match=message):
        require_patients(data(**options))


def test_an_unknown_patient_is_refused_with_the_option(data):
    with pytest.raises(
        ValueError, match="group_column=case is not in the data.*with data.aggregate it is data.patient_c"
    ):
        data(patient_column="case")


@pytest.mark.parametrize(("options", "column"), [({}, "patient_id"), ({"group_column": "site"}, "site")])
def test_an_evaluation_by_patient_knows_patients_as_groups_unless_others_are_given(data, options, column):
    made = data(num_folds=1, aggregate=None, **options)
    made.group_by_patient()
    assert made.group_column == column
    assert set(made.groups) == set(made.bag_ids("test"))
