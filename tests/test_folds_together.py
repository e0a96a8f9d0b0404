"""The folds of a cross-validation as one answer: predict, evaluate on another cohort, app, and what is refused."""

import json
import shutil
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from PIL import Image

from milpath.data.store.bag_store import BagStore
from milpath.inference.ensemble import open_predictor
from milpath.inference.predict_bags import predict_bags
from milpath.inference.predict_slides import predict_slides
from milpath.models.checkpoint import load_card, load_network, update_card
from milpath.records.prediction_table import read_predictions
from milpath.targets.decision import Decision, decide
from milpath.targets.shown_sets import sets_of
from milpath.viewer.result_page import render_answer
from milpath.viewer.upload_answer import Analyst
from milpath.viewer.upload_check import Limits
from tests import qupath_rules
from tests.commands import SMALL_RUN, here

NUM_SLIDES, FOLDS = 24, 2
DATA = ["data=synthetic", "data.tile_size=32", "data.num_tiles=4", "trainer.accelerator=cpu"]


@pytest.fixture(scope="module")
def workplace(tmp_path_factory) -> Path:
    folder = tmp_path_factory.mktemp("folds, [odd]")
    options = ["trainer.max_epochs=2", "decision.coverage=0.75", "decision.calibrate=true", "decision.sensitivity=0.8"]
    words = [word for word in SMALL_RUN if word != "report=false"]
    status = here(
        "milpath.table", *words, *options, "data.val_fraction=0.4", "methods=[attention]", f"folds={FOLDS}", "repeats=1",
        "output=table", cwd=folder,
    )  # fmt: skip
    assert status == 0
    return folder


def checkpoints(workplace: Path) -> list[Path]:
    return [workplace / f"table/runs/attention/repeat_0/fold_{fold}/checkpoints/best.ckpt" for fold in range(FOLDS)]


def store_of(workplace: Path) -> Path:
    return next(path.parent for path in workplace.rglob("bags.csv"))


def test_predict_averages_the_folds_and_calibrates_on_pooled_validation(workplace, capsys):
    slides = store_of(workplace)
    assert here(
        "milpath.predict", "checkpoint=table", f"slides={slides}", "output=out", "device=cpu", "pictures=false",
        "formats=[geojson]", cwd=workplace,
    ) == 0  # fmt: skip
    assert "average of 2 folds, calibrated on the" in capsys.readouterr().out
    table = pd.read_csv(workplace / "out/predictions.csv", dtype={"id": str})
    store = BagStore.open(slides)
    each = []
    for path in checkpoints(workplace):
        card = load_card(path)
        bags = predict_bags(load_network(path), store, card.task, temperature=card.temperature)
        each.append([bag.probabilities for bag in bags])
    each = np.array(each, dtype=np.float64)
    card = open_predictor(workplace / "table").card
    calls = decide(each.mean(0), "binary", Decision(card.threshold, card.temperature, card.defer_below))
    names = np.array(card.class_names)
    found = table[[f"probability_{name}" for name in names]].to_numpy()
    np.testing.assert_allclose(found, calls.probabilities, atol=1e-5)
    assert table["predicted"].tolist() == names[calls.predicted].tolist()
    spread = each.std(axis=0, ddof=1)[np.arange(len(table)), calls.predicted]
    np.testing.assert_allclose(table["fold_spread"], spread, atol=1e-6)
    assert table["attention_agreement"].between(-1, 1).all()
    inside = sets_of(card).sets(found, each.transpose(1, 0, 2))
    assert table["set"].tolist() == [";".join(names[row]) for row in inside]
    row = table.iloc[0]
    *_, answer = qupath_rules.read(workplace / f"out/geojson/{row['id']}.geojson")
    assert answer.measurements["fold_spread"] == pytest.approx(row["fold_spread"], abs=1e-8)
    assert answer.measurements["attention_agreement"] == pytest.approx(row["attention_agreement"], abs=1e-8)
    assert answer.metadata["set"] == row["set"]


def test_the_pool_holds_each_validation_bag_once_and_no_test_prediction(workplace):
    predictor = open_predictor([str(path) for path in checkpoints(workplace)])
    tables = [read_predictions(path.parent.parent / "predictions.csv") for path in checkpoints(workplace)]
    rows = {}
    for table in tables:
        part = table.of_split("val")
        for name, row in zip(part.bag_ids, part.probabilities, strict=True):
            rows.setdefault(name, []).append(row)
    assert list(predictor.validation.bag_ids) == sorted(rows)
    wanted = np.stack([np.mean(rows[name], axis=0) for name in sorted(rows)])
    np.testing.assert_allclose(predictor.validation.answers, wanted, rtol=1e-12)
    assert sets_of(predictor.card).num_bags == sum(len(of_folds) for of_folds in rows.values())


def test_another_cohort_is_tested_with_its_shift_and_own_bags_are_refused(workplace, capsys):
    words = [*DATA, "data.num_slides=10", "data.seed=5", "run_name=cohort", "seed=0"]
    paths = ",".join(f'"{path}"' for path in checkpoints(workplace))  # in quotes, for their comma and brackets
    assert here("milpath.evaluate", f"checkpoint=[{paths}]", *words, cwd=workplace) == 0
    run = workplace / "runs/cohort"
    metrics = json.loads((run / "metrics.json").read_text())["test"]
    part = read_predictions(run / "predictions.csv")
    positive = part.probabilities[:, 1]
    assert metrics["predicted_mean_malignant"] == pytest.approx(positive.mean())
    assert metrics["observed_mean_malignant"] == pytest.approx((part.labels == 1).mean())
    difference = metrics["calibration_in_the_large_malignant"]
    assert difference == pytest.approx((part.labels == 1).mean() - positive.mean())
    assert (
        metrics["calibration_in_the_large_low_malignant"]
        < difference
        < metrics["calibration_in_the_large_high_malignant"]
    )
    assert 0 <= metrics["set_coverage_low"] <= metrics["set_coverage"] <= metrics["set_coverage_high"] <= 1
    page = (run / "report.html").read_text()
    assert "Shift against validation" in page
    assert "sets of one class" in page
    capsys.readouterr()
    assert here("milpath.evaluate", "checkpoint=table", "run_name=own", cwd=workplace) == 1
    assert "each fold has a split of its own" in capsys.readouterr().err
    assert here(
        "milpath.evaluate", "checkpoint=table", *DATA, f"data.num_slides={NUM_SLIDES}", "run_name=own", cwd=workplace
    ) == 1  # fmt: skip
    assert "tested bags are training or validation bags of some fold" in capsys.readouterr().err


def test_the_app_takes_folds_and_says_the_set_and_how_far_they_differ(workplace, tmp_path):
    analyst = Analyst(str(workplace / "table"), Limits(10, 100, 60))
    rng = np.random.default_rng(0)
    files = []
    for number in range(3):
        files.append(tmp_path / f"{number}.png")
        Image.fromarray(rng.integers(0, 255, (32, 32, 3), dtype=np.uint8)).save(files[-1])
    (tmp_path / "work").mkdir()
    answer = analyst.answer(files, tmp_path / "work")
    assert answer.prediction_set.startswith("Prediction set: ")
    assert "about 75% (at least " in render_answer(answer)
    (slide,) = predict_slides(workplace / "table", _folder_of(files, tmp_path), num_workers=1, device="cpu")
    spread, agreement = (float(slide.cells[name]) for name in ("fold_spread", "attention_agreement"))
    said = f"standard deviation between folds {spread:.3g}, rank correlation of the attention of folds {agreement:.3g}"
    assert f"Average of 2 folds: {said}." in render_answer(answer)


def _folder_of(tiles: list[Path], folder: Path) -> Path:
    """Return a folder with tiles as those of one slide."""
    (folder / "tiles").mkdir()
    for number, path in enumerate(tiles):
        shutil.copy(path, folder / "tiles" / f"a_{number}.png")
    return folder / "tiles"


def test_arrays_of_slides_that_folds_were_trained_on_are_said_to_be_no_test(workplace, caplog):
    stores = [path.parent for path in workplace.rglob("bags.csv")]
    store = next(path for path in stores if len(BagStore.open(path)) == NUM_SLIDES)
    assert len(list(predict_slides(workplace / "table", store, num_workers=1, device="cpu"))) == NUM_SLIDES
    assert "have the names of bags that folds were trained on: their predictions are no test" in caplog.text


def test_folds_that_differ_are_refused_with_the_first_difference(workplace, tmp_path):
    first, second = checkpoints(workplace)
    copy = tmp_path / "fold"
    shutil.copytree(second.parent.parent, copy)
    changed = copy / "checkpoints/best.ckpt"
    update_card(changed, class_names=("benign", "tumour"))
    with pytest.raises(
        ValueError, match=r"has class_names \['benign', 'tumour'\], but .* has \['benign', 'malignant'\]"
    ):
        open_predictor([first, changed])
    update_card(changed, class_names=("benign", "malignant"), tiling={"tile_size": 64})
    with pytest.raises(ValueError, match="has tiling.tile_size 64, but"):
        open_predictor([first, changed])


def test_folds_away_from_their_run_or_given_twice_are_refused(workplace, tmp_path):
    first, second = checkpoints(workplace)
    moved = tmp_path / "best.ckpt"
    shutil.copy(second, moved)
    with pytest.raises(FileNotFoundError, match="is not checkpoints/best.ckpt in a run folder with predictions.csv"):
        open_predictor([first, moved])
    with pytest.raises(ValueError, match="more than once; give each fold once"):
        open_predictor([first, first])
    shutil.copytree(first.parents[1], tmp_path / "copy")
    with pytest.raises(ValueError, match=r"copy/checkpoints/best.ckpt is a copy of .*; give each fold once"):
        open_predictor([first, second, tmp_path / "copy/checkpoints/best.ckpt"])
    with pytest.raises(ValueError, match="method=dsmil chooses in the folder of a table"):
        open_predictor(first, method="dsmil")
    with pytest.raises(ValueError, match="method=dsmil is not in .*, which has attention"):
        open_predictor(workplace / "table", method="dsmil")
    half = tmp_path / "table"
    shutil.copytree(workplace / "table", half)
    shutil.copytree(half / "runs/attention", half / "runs/dsmil")
    with pytest.raises(ValueError, match="has several methods: attention, dsmil; choose one with method=NAME"):
        open_predictor(half)
    shutil.rmtree(half / "runs/dsmil/repeat_0/fold_1")
    with pytest.raises(FileNotFoundError, match="has 1 of 2 folds of dsmil: finish the table"):
        open_predictor(half, method="dsmil")
    other = half / "runs/attention/repeat_0/fold_0"
    shutil.copy(half / "runs/attention/repeat_0/fold_1/splits.csv", other / "splits.csv")
    with pytest.raises(ValueError, match=r"splits.csv is not that of the run that wrote"):
        open_predictor(half, method="attention")


def test_sets_that_a_target_or_the_data_cannot_have_are_refused_before_training(tmp_path, capsys):
    assert here("milpath.train", *SMALL_RUN, "decision.coverage=1.5", cwd=tmp_path) == 1
    assert "decision.coverage=1.5 must be above 0 and below 1" in capsys.readouterr().err
