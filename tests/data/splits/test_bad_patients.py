"""Labels of patients that cannot be: one line that names column, patient, and what to type."""

import re
from collections.abc import Callable

import pandas as pd
import pytest

from milpath.data.datamodule import BagDataModule
from milpath.data.store.stored_bags import StoredBags
from milpath.targets import Multilabel, Regression, Survival
from tests.drawn_patients import DrawnPatients, draw_patients


@pytest.fixture(scope="module")
def study(tmp_path_factory) -> DrawnPatients:
    return draw_patients(tmp_path_factory.mktemp("study"), 24)


@pytest.fixture
def open_with(study, tmp_path) -> Callable[..., BagDataModule]:
    """Open the bags of patients after changes of cells of their table, `(column, row, cell)`; row None for all rows."""

    def open_(*changes, **options) -> BagDataModule:
        table = pd.read_csv(study.patients, dtype=str)
        for column, row, cell in changes:
            table.loc[slice(None) if row is None else row, column] = cell
        table.to_csv(tmp_path / "clinical.csv", index=False)
        words = {"patients": str(tmp_path / "clinical.csv"), "slides": str(study.slides), "num_folds": 4} | options
        data = BagDataModule(StoredBags(study.store), bag_column="patient_id", **words)
        data.setup()
        return data

    return open_


AGE = Regression(["age"])
BAD = {
    "negative time": (Survival(), [("time", 3, "-4")], "column 'time' must hold times of 0 or more, .* is -4 .slide 'P03'"),
    "missing time": (Survival(), [("time", 3, "")], "'time' .* is empty .slide 'P03'.*data.on_missing_label=skip"),
    "infinite time": (Survival(), [("time", 3, "inf")], "column 'time' must hold finite numbers, .* 'inf' .slide 'P03'"),
    "missing event": (Survival(), [("event", 3, "")], "'event' .* is empty .slide 'P03'.*data.on_missing_label=skip"),
    "event of a word": (Survival(), [("event", 3, "ill")], "column 'event' must hold 1 or true .* is 'ill' .slide 'P03'"),
    "event of 2": (Survival(), [("event", 5, "2")], "column 'event' must hold 1 or true .* is '2' .slide 'P05'"),
    "all censored": (Survival(), [("event", None, "0")], "all 12 training bags are censored .column 'event'.*event_column=NAME"),
    "one time": (Survival(loss="hazard"), [("time", None, "9")], "all events of the training split have the same time"),
    "one event": (Survival(), [("event", None, "0"), ("event", 2, "1")],
                  "'with an event' has 1 bag, fewer than data.num_folds=4; .* check the column of the labels"),
    "no such column": (Survival("os_time"), [], "target=survival needs the column 'os_time'; .* did you mean 'time'"),
    "no column alike": (Survival(event_column="status"), [], "choose one with the column options of the target, or for"),
    "constant": (AGE, [("age", None, "50")], "all 12 training bags have age = 50: a constant cannot be learnt; choose"),
    "infinite": (AGE, [("age", 5, "-inf")], "column 'age' must hold finite numbers, .* '-inf' .slide 'P05'.*data.exclude"),
    "a word": (AGE, [("age", 5, "old")], "column 'age' must hold finite numbers, .* 'old' .slide 'P05'"),
    "third value": (Multilabel(["label", "event"]), [("event", 5, "2")],
                    "target 'event': a binary task has 2 classes, not 3: .* '2' is the rarest .slide 'P05'"),
}  # fmt: skip


@pytest.mark.parametrize("kind", BAD)
def test_a_bad_cell_is_named_with_its_column_and_patient(kind, open_with):
    task, changes, message = BAD[kind]
    with pytest.raises(ValueError) as caught:
        open_with(*changes, task=task)
    assert "\n" not in str(caught.value)
    assert re.search(message, str(caught.value)), str(caught.value)


def test_ties_and_few_events_are_no_error(open_with):
    times = open_with(("time", None, "9"), task=Survival()).label_frame["label"]
    assert {time for time, _ in times} == {9.0}
    changes = [("event", None, "0"), *(("event", row, "1") for row in range(4))]
    frame = open_with(*changes, task=Survival()).label_frame
    assert sum(event for _, event in frame["label"]) == 4


def test_times_in_the_units_of_each_centre_are_a_warning(open_with, caplog):
    centres = [("centre", row, "AB"[row % 2]) for row in range(24)]
    days = [("time", row, str(30 * (row + 1))) for row in range(1, 24, 2)]
    months = [("time", row, str(row + 1)) for row in range(0, 24, 2)]
    open_with(*centres, *days, *months, task=Survival())
    assert "are they in days and months? Use one unit" in caplog.text


def test_a_patient_is_on_one_side_and_has_one_label(study, open_with, tmp_path):
    slides = pd.read_csv(study.slides)
    sides = slides.assign(id=slides["slide_id"], split=["train" if row % 2 else "test" for row in range(len(slides))])
    sides.to_csv(tmp_path / "splits.csv", index=False)
    with pytest.raises(ValueError, match=r"puts slides of 'P01' .column 'patient_id'. in more than one split; put"):
        open_with(splits=str(tmp_path / "splits.csv"), label_column="label")
    own = BagDataModule(
        StoredBags(study.store), **study.options, splits=str(tmp_path / "splits.csv"), label_column="label"
    )
    with pytest.raises(
        ValueError, match="first: 'group P01', with 'slide_01_[01]' in .* and 'slide_01_[01]' in .*; put all bags"
    ):
        own.setup()
    slides.assign(stage=range(len(slides))).to_csv(tmp_path / "slides.csv", index=False)
    with pytest.raises(
        ValueError, match=r"'P20' and 15 more has slides with different values of 'stage': 20 .slide_20_0. and "
    ):
        open_with(slides=str(tmp_path / "slides.csv"), label_column="stage")
