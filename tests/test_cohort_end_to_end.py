"""Patients of the drawn cohort through train, evaluate, predict and table, for each target of numbers and for several."""

import json
import re
from pathlib import Path

import numpy as np
import pandas as pd
import pytest

from milpath.data import SyntheticCohort
from milpath.models import load_card
from milpath.targets import target_of
from tests.commands import here

pytestmark = [pytest.mark.slow, pytest.mark.command]
NUM_PATIENTS, NUM_TILES, TILE = 24, 2, 16
DATA = [
    "data=synthetic_cohort", f"data.num_patients={NUM_PATIENTS}", f"data.num_tiles={NUM_TILES}", f"data.tile_size={TILE}",
]  # fmt: skip
RUN = [
    *DATA, "data.num_folds=3", "data.batch_size=8", "model/encoder=tile_cnn", "model.encoder.embedding_dim=4",
    "trainer.accelerator=cpu", "trainer.max_epochs=1", "logger=csv", "callbacks.progress=null",
    "callbacks.early_stopping=null", "optimizer.lr=0.003", "monitor=val/loss", "monitor_mode=min",
]  # fmt: skip
TARGETS = {
    "regression": ["target=regression", "target.columns=[marker]", "target.units=[ng/ml]"],
    "survival": ["target=survival", "target.unit=months"],
    "several": [
        "target=several",
        "target.targets={diagnosis:binary,marker:{task:regression,units:[ng/ml]},os:{task:survival,unit:months}}",
    ],
    "multilabel": ["target=multilabel", "target.columns=[sex,diagnosis]"],
}
SECTIONS = {
    "regression": ["Predicted and true marker", "Residuals of marker", "Agreement of marker"],
    "survival": ["Survival by predicted risk"],
    "several": ["diagnosis", "marker", "os", "ROC curve", "Agreement of marker", "Survival by predicted risk"],
    "multilabel": ["sex", "diagnosis", "ROC curve"],
}


@pytest.fixture(scope="module")
def folder(tmp_path_factory) -> Path:
    """A folder with the cohort as a study has it: a store of slides and two tables."""
    folder = tmp_path_factory.mktemp("cohort")
    SyntheticCohort(NUM_PATIENTS, NUM_TILES, TILE).write_folder(folder / "study")
    return folder


@pytest.fixture(scope="module", params=TARGETS)
def trained(request, folder) -> tuple[Path, str]:
    """The folder, and the target of the run of that name."""
    assert here("milpath.train", *RUN, *TARGETS[request.param], f"run_name={request.param}", cwd=folder) == 0
    return folder, request.param


def rows_of(path: Path) -> pd.DataFrame:
    return pd.read_csv(path / "predictions.csv").set_index("id").sort_index()


def test_train_evaluate_and_predict_say_the_same_of_each_patient(trained, capsys):
    folder, name = trained
    checkpoint = folder / "runs" / name / "checkpoints/best.ckpt"
    answers = list(target_of(load_card(checkpoint)).answer_columns)
    of_run = rows_of(folder / "runs" / name)
    assert of_run.index.tolist() == [f"patient_{number:04d}" for number in range(NUM_PATIENTS)]

    words = [f"checkpoint={checkpoint}", "trainer.accelerator=cpu", f"run_name={name}_again", "report=false"]
    assert here("milpath.evaluate", *words, cwd=folder) == 0
    again = rows_of(folder / "runs" / f"{name}_again")
    assert set(again["split"]) == {"val", "test"}
    np.testing.assert_allclose(again[answers], of_run.loc[again.index, answers], rtol=1e-5, atol=1e-6)
    first, second = (
        json.loads((folder / "runs" / run / "metrics.json").read_text()) for run in (name, f"{name}_again")
    )
    for metric, value in second["test"].items():
        assert first["test"][metric] == (None if value is None else pytest.approx(value, abs=1e-5)), metric

    words = [f"checkpoint={checkpoint}", "slides=study/store", "slides_table=study/slides.csv", "device=cpu"]
    assert here("milpath.predict", *words, "pictures=false", f"output={name}_predicted", cwd=folder) == 0
    assert f"{NUM_PATIENTS} patients" in capsys.readouterr().out
    predicted = rows_of(folder / f"{name}_predicted")
    assert predicted.index.tolist() == of_run.index.tolist()
    np.testing.assert_allclose(predicted[answers], of_run[answers], rtol=1e-4, atol=1e-5)
    assert np.isfinite(of_run[answers].drop(columns=[each for each in answers if "median" in each])).all(axis=None)


def test_the_report_has_a_section_for_each_target(trained):
    folder, name = trained
    page = (folder / "runs" / name / "report.html").read_text()
    headings = re.findall(r"<h[23][^>]*>([^<]*)<", page)
    assert set(SECTIONS[name]) <= set(headings)
    assert "says nothing about real tissue" in page


def test_a_table_of_folds_tests_each_patient_once(folder):
    words = [*RUN, *TARGETS["regression"], "methods=[attention]", "folds=2", "repeats=1", "output=table"]
    words = [word for word in words if not word.startswith(("data.num_folds", "monitor"))]
    words += ["data.val_fraction=0.3", "report=false", "monitor=val/mae", "monitor_mode=min"]
    assert here("milpath.table", *words, cwd=folder) == 0
    runs = [rows_of(folder / f"table/runs/attention/repeat_0/fold_{fold}") for fold in range(2)]
    tested = [rows[rows["split"] == "test"] for rows in runs]
    assert sorted([*tested[0].index, *tested[1].index]) == [f"patient_{number:04d}" for number in range(NUM_PATIENTS)]
    errors = [np.abs(rows["predicted_marker"] - rows["label_marker"]).mean() for rows in tested]
    table = json.loads((folder / "table/table.json").read_text())
    assert table["metric"] == "mae"
    (row,) = table["rows"]
    assert [fold["value"] for fold in row["folds"]] == pytest.approx(errors, abs=1e-4)
    assert row["mean"] == pytest.approx(np.mean(errors), abs=1e-4)
