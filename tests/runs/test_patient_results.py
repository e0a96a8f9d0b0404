"""Results by patient of slides that are bags: how they are split, and what is refused before a training."""

import numpy as np
import pandas as pd
import pytest
import torch
from omegaconf import OmegaConf

from milpath.data.datamodule import BagDataModule
from milpath.data.store.stored_bags import StoredBags
from milpath.records.prediction_table import Predictions
from milpath.runs.familiar_bags import fitting_probe
from milpath.runs.patient_results import fitted_by_patient, require_patients
from milpath.targets import Several


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


def test_censoring_groups_of_risk_and_deferral_are_those_of_patients():
    patient = np.repeat(np.arange(5), [5, 1, 1, 1, 1])  # the first has five slides
    table = pd.DataFrame(
        {"bag_id": list("abcde"), "time": [1, 2, 3, 4, 5], "event": [0, 1, 1, 1, 1], "kras": [1, 0, 1, 1, 0]}
    )
    several = Several({"os": {"task": "survival", "time_column": "time", "event_column": "event"}, "kras": "binary"})
    several, labels = several.read(table, several.columns_of_table(None, "label"))
    logits = np.array([[5, 3], [4, -0.4], [3, 0.8], [2, 1.4], [1, 2.2]], np.float32)
    of_slides = several.fitted_on(labels[patient]).fitted_on_predictions(logits[patient], labels[patient])
    of_slides = of_slides.decided_on(logits[patient], labels[patient], None, True, 0.4)
    answers = of_slides.answers(torch.from_numpy(logits)).numpy()
    patients = Predictions(
        [*"abcdefghij"], ["train"] * 5 + ["val"] * 5, np.tile(labels, (2, 1)), np.tile(answers, (2, 1)), [np.ones(1)] * 10,
        several.names, label_columns=several.label_columns, answer_columns=of_slides.answer_columns,
    )  # fmt: skip
    (slides, decided), (survival, binary) = (
        each.members for each in (of_slides, fitted_by_patient(of_slides, patients, None, 0.4))
    )
    assert (slides.target.risk_cut, survival.target.risk_cut) == (5, 3)
    censored = [each.target.fitted["censoring_values"][0] for each in (slides, survival)]
    assert censored == pytest.approx([4 / 9, 4 / 5])
    assert np.array_equal(slides.target.fitted["baseline_hazard"], survival.target.fitted["baseline_hazard"])
    assert binary.decision.temperature == decided.decision.temperature != 1
    deferred = [(answers[:, -2:].max(1) < each.decision.defer_below).sum() for each in (decided, binary)]
    assert deferred == [3, 2]  # of the validation bags 0.4 were wished, of nine slides and of five patients
