"""Networks trained on the drawn cohort, measured against what was planted in it: risk, marker, grade, and a shortcut."""

from pathlib import Path

import numpy as np
import pandas as pd
import pytest
import torch
from torch import nn
from torch.nn import functional

from milpath.data import SyntheticCohort
from milpath.data.store.store_build import open_or_build
from milpath.encoding.extract_features import extract_features
from milpath.metrics.subgroups import subgroup_tables
from milpath.records.prediction_table import read_predictions
from milpath.targets import target_named
from tests.commands import here

pytestmark = pytest.mark.slow
SCALES, SHARES = (1, 3, 5, 7), (0.5, 0.75, 0.9, 0.97, 0.995)
RUN = [
    "data=bag_store", "data.path=features", "data.group_column=patient_id", "data.standardize=true", "data.num_folds=2",
    "data.val_fraction=0.2", "data.batch_size=64", "model=embedding_pool_mil", "model/encoder=linear", "optimizer=adamw",
    "optimizer.weight_decay=0.01", "trainer.accelerator=cpu", "logger=none", "callbacks.progress=null",
    "callbacks.early_stopping=null", "report=false",
]  # fmt: skip
TARGETS = {
    "survival": ["target=survival", "monitor=val/c_index"],
    "marker": ["target=regression", "target.columns=[marker]", "target.units=[ng/ml]", "monitor=val/mae", "monitor_mode=min"],
    "grade": ["data.label_column=grade", "data.task=ordinal", "data.class_names=[none,low,high]"],
    "diagnosis": ["data.label_column=diagnosis"],
}  # fmt: skip


class Texture(nn.Module):
    """How dark the darkest places of a tile are at several scales, whatever the scanner: nuclei of a lesion are larger."""

    def forward(self, tiles: torch.Tensor) -> torch.Tensor:
        density = -torch.log(tiles[:, :1].clamp_min(0.02))
        density = density / density.mean((1, 2, 3), keepdim=True)
        columns = []
        for scale in SCALES:
            blurred = functional.avg_pool2d(density, scale, 1).flatten(1)
            columns.append(torch.quantile(blurred, torch.tensor(SHARES), dim=1).T)
        return torch.cat(columns, dim=1)


class Colour(nn.Module):
    """The mean colour of a tile, which the scanner determines."""

    def forward(self, tiles: torch.Tensor) -> torch.Tensor:
        return tiles.mean((2, 3))


def encode(cohort: SyntheticCohort, encoder: nn.Module, folder: Path, embedding_dim: int) -> None:
    """Write the features of a cohort to `features` in a folder."""
    store = open_or_build(cohort, folder / "stores")
    card = {"name": type(encoder).__name__, "embedding_dim": embedding_dim}
    extract_features(store.path, folder / "features", encoder.eval(), card, dtype="float32")


def by_patient(folder: Path, column: str) -> pd.Series:
    """The mean of a predicted number over the test slides of each patient."""
    table = pd.read_csv(folder / "predictions.csv")
    table = table[table["split"] == "test"]
    return table.groupby(table["id"].str[1:5].radd("patient_"))[column].mean()


@pytest.fixture(scope="module")
def study(tmp_path_factory) -> tuple[SyntheticCohort, Path]:
    """A cohort without a shortcut, and its features."""
    folder, cohort = tmp_path_factory.mktemp("study"), SyntheticCohort(num_patients=120, num_tiles=6, tile_size=48)
    encode(cohort, Texture(), folder, len(SCALES) * len(SHARES))
    return cohort, folder


@pytest.fixture(scope="module")
def trained(study) -> Path:
    """The folder of the runs, one for each target."""
    for name, words in TARGETS.items():
        run = [*RUN, *words, "optimizer.lr=0.02", "trainer.max_epochs=30", f"run_name={name}"]
        assert here("milpath.train", *run, cwd=study[1]) == 0, name
    return study[1] / "runs"


def test_the_concordance_reaches_that_of_the_true_risk_within_its_standard_error(study, trained):
    pytest.importorskip("sksurv", reason="needs scikit-survival (uv pip install -e '.[dev]')")
    from sksurv.metrics import concordance_index_censored

    cohort, _ = study
    risk = by_patient(trained / "survival", "risk")
    clinical = cohort.clinical_table().set_index("patient_id").loc[risk.index]
    truth = cohort.truth_table().set_index("patient_id").loc[risk.index, "log_hazard"]
    time, event = clinical["time"].to_numpy(), clinical["event"].to_numpy(bool)

    def index(scores: np.ndarray, rows: np.ndarray) -> float:
        return float(concordance_index_censored(event[rows], time[rows], scores[rows])[0])

    everyone, draw = np.arange(len(risk)), np.random.default_rng(0)
    samples = [draw.integers(0, len(risk), len(risk)) for _ in range(200)]
    standard_error = np.std([index(truth.to_numpy(), rows) for rows in samples])
    found, true = index(risk.to_numpy(), everyone), index(truth.to_numpy(), everyone)
    assert standard_error < 0.06
    assert true > 0.7
    assert found > true - standard_error


def test_the_marker_is_predicted_but_for_its_noise(study, trained):
    predicted = by_patient(trained / "marker", "predicted_marker")
    clinical = study[0].clinical_table().set_index("patient_id").loc[predicted.index]
    error = float(np.sqrt(np.mean((predicted - clinical["marker"]) ** 2)))
    # Nobody predicts the noise; most of the rest is found.
    assert 0.8 * study[0].marker_noise < error < 0.8 * clinical["marker"].std()
    assert np.corrcoef(predicted, clinical["marker"])[0, 1] > 0.6


def test_grade_and_diagnosis_are_found_from_their_words(trained):
    metrics = {name: pd.read_json(trained / name / "metrics.json")["test"] for name in ("grade", "diagnosis")}
    assert metrics["grade"]["quadratic_kappa"] > 0.5
    assert metrics["diagnosis"]["auroc"] > 0.8
    assert read_predictions(trained / "grade" / "predictions.csv").class_names == ["none", "low", "high"]


@pytest.fixture(scope="module")
def large_study(tmp_path_factory) -> Path:
    """The features of a cohort of many patients, each with few small tiles."""
    folder = tmp_path_factory.mktemp("large")
    encode(SyntheticCohort(num_patients=800, num_tiles=2, tile_size=16), Texture(), folder, len(SCALES) * len(SHARES))
    return folder


@pytest.mark.parametrize("name", ["diagnosis", "grade", "marker"])
def test_the_measured_coverage_is_the_one_asked_for_within_three_standard_errors(name, large_study):
    words = [*RUN, *TARGETS[name], "data.bag_column=patient_id", "data.group_column=null", "data.val_fraction=0.5"]
    words += ["decision.coverage=0.9", "optimizer.lr=0.02", "trainer.max_epochs=3", f"run_name={name}"]
    assert here("milpath.train", *words, cwd=large_study) == 0
    counts = pd.read_csv(large_study / "runs" / name / "splits.csv")["split"].value_counts()
    assert counts["test"] == 400
    assert counts["val"] == 200
    # Of the share of 400 sets, and of a quantile of 200 scores.
    standard_error = np.sqrt(0.9 * 0.1 * (1 / counts["test"] + 1 / counts["val"]))
    found = pd.read_json(large_study / "runs" / name / "metrics.json")["test"]
    place = "interval_coverage_of_marker" if name == "marker" else "set_coverage"
    assert abs(found[place] - 0.9) < 3 * standard_error, found.to_dict()
    if name == "grade":  # which has a class called low
        assert found["set_coverage_low"] < found["set_coverage"] < found["set_coverage_high"]
    # Not by sets that say nothing: these have coverage 1 at any data.
    if name != "marker":
        assert found["set_size"] < {"diagnosis": 2, "grade": 3}[name]


def test_the_sets_of_two_folds_cover_patients_of_none_of_them_as_asked(large_study):
    patients = np.array([f"patient_{number:04d}" for number in range(800)])
    for name, own in (("held", patients[500:]), ("rest", patients[:500])):
        pd.DataFrame({"bag_id": own}).to_csv(large_study / f"{name}.csv", index=False)
    data = [*RUN[:2], "data.bag_column=patient_id", "data.group_column=null"]
    words = [*RUN, *TARGETS["diagnosis"], *data, "data.exclude=[held.csv]", "data.val_fraction=0.5"]
    words += ["decision.coverage=0.9", "optimizer.lr=0.02", "trainer.max_epochs=3"]
    for fold in range(2):
        assert here("milpath.train", *words, f"data.fold={fold}", f"run_name=fold_{fold}", cwd=large_study) == 0
    checkpoint = "checkpoint=[runs/fold_0/checkpoints/best.ckpt,runs/fold_1/checkpoints/best.ckpt]"
    data += [*TARGETS["diagnosis"], "data.exclude=[rest.csv]", "trainer.accelerator=cpu", "report=false"]
    assert here("milpath.evaluate", checkpoint, *data, "run_name=held", cwd=large_study) == 0
    found = pd.read_json(large_study / "runs/held/metrics.json")["test"]
    assert len(pd.read_csv(large_study / "runs/held/predictions.csv")) == 300
    # Of the share of 300 sets, and of the scores of 250 validation bags, 125 of each fold.
    assert abs(found["set_coverage"] - 0.9) < 3 * np.sqrt(0.9 * 0.1 * (1 / 300 + 1 / 250)), found.to_dict()
    assert found["set_size"] < 2


def test_the_table_by_scanner_finds_a_network_that_learned_the_scanner(tmp_path):
    cohort = SyntheticCohort(num_patients=300, num_tiles=3, tile_size=16, shortcut=0.8)
    encode(cohort, Colour(), tmp_path, 3)
    words = [*RUN, *TARGETS["diagnosis"], "optimizer.lr=0.02", "trainer.max_epochs=5", "run_name=r"]
    assert here("milpath.train", *words, cwd=tmp_path) == 0
    predictions = read_predictions(tmp_path / "runs/r/predictions.csv").of_split("test")
    bags = cohort.label_table().set_index("bag_id").loc[predictions.bag_ids].reset_index()
    target, groups = target_named("binary"), bags["patient_id"].to_numpy(dtype=str)
    outcomes = target.evaluate(predictions.labels, predictions.probabilities, 0.5, groups)
    overall = target.metrics(outcomes)["auroc"]
    (table,) = subgroup_tables(outcomes, bags, ("auroc",), num_resamples=200)
    assert table.column == "scanner"
    assert overall > 0.8
    # Within a scanner little is left of what the whole split seems to show.
    within = [row.intervals[0] for row in table.rows]
    assert all(interval.value < overall - 0.2 and interval.high < overall - 0.1 for interval in within)
