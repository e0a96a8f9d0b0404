"""Patients with several slides through training, evaluation and prediction."""

import json
import re
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
import torch
from scipy import stats

from milpath.data.datamodule import BagDataModule
from milpath.data.store.bag_store import BagStore
from milpath.data.store.bag_store_writer import BagStoreWriter
from milpath.data.store.stored_bags import StoredBags
from milpath.drawing.picture_frame import attention_limits, colours_of
from milpath.inference.predict_bags import predict_bags
from milpath.metrics.conformal import Conformal
from milpath.models import load_card, load_network
from milpath.reports.compare.compare_page import compare_runs
from milpath.reports.compare.compared_runs import read_compared
from milpath.runs.evaluation.held_out_bags import trained_bags
from milpath.viewer.upload_answer import Analyst
from milpath.viewer.upload_check import Limits
from tests import qupath_rules
from tests.commands import here
from tests.drawn_patients import DrawnPatients, draw_patients

RUN = [
    "data=bag_store", "data.num_folds=4", "data.batch_size=8", "trainer.accelerator=cpu", "logger=csv",
    "callbacks.progress=null", "callbacks.early_stopping=null", "optimizer.lr=0.01", "paths.runs_dir=runs",
]  # fmt: skip
TILES = ["model/encoder=tile_cnn", "model.encoder.embedding_dim=4"]
FEATURES = ["model/encoder=linear", "model.encoder.hidden_dims=[8]"]


def tables(study: DrawnPatients) -> list[str]:
    return [f"data.path={study.store}", f"data.patients={study.patients}", f"data.slides={study.slides}"]


@pytest.fixture(scope="module")
def folder(tmp_path_factory) -> Path:
    return tmp_path_factory.mktemp("patients")


@pytest.fixture(scope="module")
def images(folder) -> DrawnPatients:
    return draw_patients(folder / "images", 24, image=True)


@pytest.fixture(scope="module")
def by_patient(folder, images) -> Path:
    """The run of a network of patients, whose bags hold at most six tiles in training."""
    words = [*RUN, *TILES, *tables(images), "data.bag_column=patient_id", "data.max_tiles=6", "trainer.max_epochs=2"]
    assert here("milpath.train", *words, "run_name=whole", cwd=folder) == 0
    return folder / "runs" / "whole"


@pytest.fixture(scope="module")
def predicted(folder, images, by_patient) -> Path:
    words = [f"checkpoint={by_patient}/checkpoints/best.ckpt", f"slides={images.store}", "device=cpu"]
    assert here("milpath.predict", *words, f"slides_table={images.slides}", "output=predicted", cwd=folder) == 0
    return folder / "predicted"


def test_a_run_has_one_row_per_patient_and_the_share_of_each_slide(by_patient):
    predictions = pd.read_csv(by_patient / "predictions.csv")
    assert len(predictions) == 24 == predictions["id"].nunique()
    assert set(predictions["split"]) == {
        "train",
        "val",
        "test",
    }
    assert pd.read_csv(by_patient / "splits.csv")["id"].str.startswith("P").all()
    shares = pd.read_csv(by_patient / "slide_attention.csv")
    assert shares["slide"].nunique() == len(shares) == 42
    assert np.allclose(shares.groupby("id")["attention"].sum(), 1, atol=1e-6)
    lengths = predictions.set_index("id")["attention"].map(lambda text: len(json.loads(text)))
    assert shares.groupby("id")["num_tiles"].sum().to_dict() == lengths.to_dict()  # all tiles, not six
    assert "of the attention" not in (by_patient / "report.html").read_text() or (by_patient / "report_files").is_dir()


def test_a_prediction_is_that_of_the_run_and_names_slide_and_tile(by_patient, predicted, images):
    found = pd.read_csv(predicted / "predictions.csv").set_index("id")
    wanted = pd.read_csv(by_patient / "predictions.csv").set_index("id")
    assert sorted(found.index) == sorted(wanted.index)
    assert np.allclose(found["probability_1"], wanted["probability_1"].loc[found.index], atol=1e-6)
    attention = pd.read_csv(predicted / "attention.csv")
    assert attention.columns[:3].tolist() == ["id", "slide", "tile"]
    lengths = dict(zip(*BagStore.open(images.store).bags[["bag_id", "num_tiles"]].to_numpy().T, strict=True))
    for slide, rows in attention.groupby("slide"):
        assert rows["tile"].tolist() == list(range(lengths[slide]))
        assert rows["id"].nunique() == 1
    shares = pd.read_csv(predicted / "slide_attention.csv").set_index("slide")["attention"]
    of_run = pd.read_csv(by_patient / "slide_attention.csv").set_index("slide")["attention"]
    assert np.allclose(shares, of_run.loc[shares.index], atol=1e-6)


def test_every_slide_of_a_patient_has_its_outlines_and_pictures_on_one_colour_scale(predicted):
    slides = pd.read_csv(predicted / "slide_attention.csv")["slide"].tolist()
    assert sorted(path.stem for path in (predicted / "geojson").iterdir()) == sorted(slides)
    for kind in ("montage", "overlay"):
        assert all((predicted / "pictures" / f"{slide}_{kind}.jpg").is_file() for slide in slides)
    shares = pd.read_csv(predicted / "slide_attention.csv")
    own = shares.loc[shares["id"] == "P02", "slide"].tolist()
    read = [qupath_rules.read(predicted / "geojson" / f"{slide}.geojson") for slide in own]
    row = pd.read_csv(predicted / "predictions.csv").set_index("id").loc["P02"]
    for *_, answer in read:
        assert answer.name.startswith("P02: ")
        assert answer.measurements["probability_1"] == pytest.approx(row["probability_1"], abs=1e-9)
    features = [
        feature["properties"]
        for slide in own
        for feature in json.loads((predicted / "geojson" / f"{slide}.geojson").read_text())["features"]
        if feature["properties"]["objectType"] == "tile"
    ]
    ranks = [feature["measurements"]["attention rank"] for feature in features]
    weights = np.array([feature["measurements"]["attention"] for feature in features])
    assert ranks == pd.Series(weights).rank(method="max", ascending=False).tolist(), "a patient's tiles in one ranking"
    assert len(own) == 2
    assert np.isclose(weights.sum(), 1, atol=1e-5)
    expected = colours_of(weights, attention_limits(weights), "viridis")
    assert [feature["color"] for feature in features] == expected.tolist()


def test_bags_of_patients_are_predicted_as_bags_put_together_by_hand(by_patient, images, tmp_path):
    data = BagDataModule(StoredBags(images.store), **images.options, bag_column="patient_id")
    data.setup()
    with BagStoreWriter(tmp_path / "by_hand") as writer:
        slides, table = BagStore.open(images.store), pd.read_csv(images.slides)
        for patient, own in table.groupby("patient_id"):
            positions = np.flatnonzero(slides.bags["bag_id"].isin(own["slide_id"]))
            writer.add(str(patient), np.concatenate([slides.read(int(each)) for each in positions]), {})
    network = load_network(by_patient / "checkpoints" / "best.ckpt")
    found = list(predict_bags(network, data.store, "binary"))
    by_hand = list(predict_bags(network, BagStore.open(tmp_path / "by_hand"), "binary"))
    for one, other in zip(found, by_hand, strict=True):
        assert one.bag_id == other.bag_id
        assert np.array_equal(one.probabilities, other.probabilities)
        assert np.array_equal(one.attention, other.attention)


def test_slides_are_never_taken_for_patients(by_patient, images, folder, capsys):
    checkpoint = f"checkpoint={by_patient}/checkpoints/best.ckpt"
    assert load_card(by_patient / "checkpoints" / "best.ckpt").data["bag_column"] == "patient_id"
    assert here("milpath.predict", checkpoint, f"slides={images.store}", "output=refused", cwd=folder)
    assert "slides_table=CSV" in capsys.readouterr().err
    assert not (folder / "refused").exists()
    words = [checkpoint, "data=bag_store", f"data.path={images.store}", f"data.patients={images.patients}"]
    assert here("milpath.evaluate", *words, f"data.slides={images.slides}", "run_name=refused", cwd=folder)
    assert "give data.bag_column=patient_id" in capsys.readouterr().err
    assert Analyst(by_patient / "checkpoints" / "best.ckpt", Limits()).of_patients  # and says so on its page
    trained = trained_bags(
        str(by_patient / "checkpoints" / "best.ckpt")
    )  # a patient with other slides is found by them
    assert trained.groups == {name: name for name in trained.splits}
    assert len(trained.groups) == 24


def test_a_table_that_does_not_fit_the_slides_is_refused_by_name(by_patient, images, folder, tmp_path, capsys):
    (tmp_path / "slides.csv").write_text("\n".join(images.slides.read_text().splitlines()[:-1]) + "\n")
    words = [f"checkpoint={by_patient}/checkpoints/best.ckpt", f"slides={images.store}", "output=refused"]
    assert here("milpath.predict", *words, f"slides_table={tmp_path / 'slides.csv'}", cwd=folder)
    assert ("1 of 42 slides" in (said := capsys.readouterr().err) and "'slide_17_2'" in said) or "'slide_23" in said


def test_a_resumed_training_draws_the_same_tiles(by_patient, images, folder):
    words = [*RUN, *TILES, *tables(images), "data.bag_column=patient_id", "data.max_tiles=6", "report=false"]
    assert here("milpath.train", *words, "trainer.max_epochs=1", "run_name=stopped", cwd=folder) == 0
    assert (
        here("milpath.train", *words, "trainer.max_epochs=2", "run_name=stopped", "resume_from=auto", cwd=folder) == 0
    )
    states = [
        torch.load(folder / "runs" / name / "checkpoints" / "last.ckpt", weights_only=True)["state_dict"]
        for name in ("whole", "stopped")
    ]
    assert states[0].keys() == states[1].keys()
    assert all(torch.equal(states[0][name], states[1][name]) for name in states[0])


@pytest.fixture(scope="module")
def study(folder) -> DrawnPatients:
    return draw_patients(folder / "features")


@pytest.fixture(scope="module")
def by_slide(folder, study) -> Path:
    """The run of a network of slides whose results are those of patients."""
    words = [*RUN, *FEATURES, *tables(study), "data.aggregate=max", "trainer.max_epochs=8", "decision.calibrate=true"]
    words += ["decision.coverage=0.8"]
    assert here("milpath.train", *words, "run_name=by_slide", cwd=folder) == 0
    return folder / "runs" / "by_slide"


def test_results_by_patient_differ_from_those_by_slide(by_slide, study, folder):
    patients, slides = (pd.read_csv(by_slide / name) for name in ("predictions.csv", "slide_predictions.csv"))
    assert len(patients) == 60
    assert len(slides) == 114
    sides = slides.assign(patient=slides["id"].str[6:8]).groupby("patient")["split"].nunique()
    assert (sides == 1).all()
    metrics = json.loads((by_slide / "metrics.json").read_text())["test"]
    test = slides[slides["split"] == "test"]
    ranks = test["probability_1"].rank()
    positive = test["label"] == 1
    auroc = (ranks[positive].sum() - positive.sum() * (positive.sum() + 1) / 2) / (positive.sum() * (~positive).sum())
    # Only one slide of a positive patient shows the lesion.
    assert metrics["auroc"] > auroc + 0.1
    assert metrics["auroc"] > 0.95
    page = (by_slide / "report.html").read_text()
    assert "P01" in page
    cases = json.loads(re.search(r'id="case-data">(.*?)</script>', page, re.S)[1])
    assert dict(zip(cases["id"], cases["numSlides"], strict=True))["P02"] == 2
    assert sum(cases["numSlides"]) == 114


def test_prediction_and_evaluation_of_slides_agree_on_every_patient(by_slide, study, folder, capsys):
    checkpoint = f"checkpoint={by_slide}/checkpoints/best.ckpt"
    words = [checkpoint, f"slides={study.store}", f"slides_table={study.slides}", "device=cpu", "pictures=false"]
    assert here("milpath.predict", *words, "output=of_slides", cwd=folder) == 0
    found = pd.read_csv(folder / "of_slides" / "patients.csv").set_index("id")
    assert len(pd.read_csv(folder / "of_slides" / "predictions.csv")) == 114
    assert found["num_slides"].sum() == 114
    assert len(found) == 60
    run = pd.read_csv(by_slide / "predictions.csv").set_index("id").loc[found.index]
    assert np.allclose(found["probability_1"], run["probability_1"], atol=1e-5)
    assert found["predicted"].astype(int).tolist() == run["predicted"].tolist()
    # Sets were fitted on patients: slides have none, and patients put together in another way neither.
    assert "set" not in pd.read_csv(folder / "of_slides" / "predictions.csv")
    card = load_card(by_slide / "checkpoints/best.ckpt")
    inside = Conformal.of_state(card.conformal, "classes", 2).sets(run[["probability_0", "probability_1"]].to_numpy())
    assert found["set"].astype(str).tolist() == [";".join(np.array(["0", "1"])[row]) for row in inside]
    assert "set_coverage" in json.loads((by_slide / "metrics.json").read_text())["test"]
    capsys.readouterr()
    words = [
        checkpoint,
        "aggregate=mean",
        "splits=[test]",
        "run_name=mean",
        "trainer.accelerator=cpu",
        "paths.runs_dir=runs",
    ]
    assert here("milpath.evaluate", *words, cwd=folder) == 0
    said = capsys.readouterr().out
    assert "were fitted on patients from their slides with aggregate=max: there are none" in said
    assert (
        "deferral were chosen on patients with aggregate=max and are used for patients with aggregate=mean: they"
        in said
    )
    assert "set_coverage" not in json.loads((folder / "runs/mean/metrics.json").read_text())["test"]
    mean = pd.read_csv(folder / "runs" / "mean" / "predictions.csv").set_index("id")
    assert set(mean.index) == set(run.index[run["split"] == "test"])
    assert not np.allclose(mean["probability_1"], run.loc[mean.index, "probability_1"])


@pytest.mark.slow
@pytest.mark.parametrize("mode", ["data.aggregate=mean", "data.aggregate=null"])
def test_a_table_tests_and_resamples_patients(mode, study, tmp_path):
    words = [
        word for word in [*RUN, *FEATURES, *tables(study), mode] if not word.startswith(("data.num_folds", "paths"))
    ]
    words += [
        "data.val_fraction=0.2",
        "trainer.max_epochs=1",
        "methods=[attention,embedding_mean]",
        "folds=2",
        "repeats=1",
    ]
    assert here("milpath.table", *words, "metric=accuracy", "output=table", cwd=tmp_path) == 0
    row = json.loads((tmp_path / "table/table.json").read_text())["rows"][1]
    right, values, ratios = {"attention": [], "embedding_mean": []}, {}, []
    for method in right:
        for repeat, fold in np.ndindex(1, 2):
            run = pd.read_csv(tmp_path / f"table/runs/{method}/repeat_{repeat}/fold_{fold}/predictions.csv")
            run["patient"] = run["id"].str.replace(r"slide_(\d\d)_.*", r"P\1", regex=True)
            test = run[run["split"] == "test"]
            assert not set(test["patient"]) & set(run["patient"][run["split"] == "train"])
            assert (len(test) == test["patient"].nunique()) == (mode != "data.aggregate=null")
            right[method].append((test["label"] == test["predicted"]).groupby(test["patient"]).agg(["sum", "count"]))
            ratios.append(len(test) / (run["split"] == "train").sum())
        values[method] = np.array([own["sum"].sum() / own["count"].sum() for own in right[method]])
    # The paired test over folds, each of whole patients, by its definition.
    difference = values["embedding_mean"] - values["attention"]
    error = np.sqrt((1 / 2 + np.mean(ratios[2:])) * difference.var(ddof=1))
    assert row["mean"] == pytest.approx(values["embedding_mean"].mean())
    if error > 0:
        assert row["p_value"] == pytest.approx(2 * stats.t.sf(abs(difference.mean()) / error, 1))
    # The interval: patients drawn with replacement, the same in every fold and repeat.
    draw, means = np.random.default_rng(1), []
    patients = sorted({name for own in right["embedding_mean"] for name in own.index})
    for _ in range(2000):
        times = pd.Series(np.bincount(draw.integers(60, size=60), minlength=60), patients)
        folds = [own.mul(times.loc[own.index], axis=0).sum() for own in right["embedding_mean"]]
        means.append(np.mean([own["sum"] / own["count"] for own in folds]))
    low, high = np.quantile(means, [0.025, 0.975])
    assert (row["low"], row["high"]) == (pytest.approx(low, abs=0.02), pytest.approx(high, abs=0.02))
    # Two runs on the same slides: their difference on the same drawn patients.
    runs = [tmp_path / f"table/runs/{method}/repeat_0/fold_0" for method in right]
    (compared,) = (row for row in compare_runs(read_compared(runs), 1000).sections[0].metrics if row.name == "accuracy")
    first, second = (own[0] for own in right.values())
    differences = []
    for _ in range(2000):
        times = pd.Series(np.bincount(draw.integers(len(first), size=len(first)), minlength=len(first)), first.index)
        shares = [own.mul(times, axis=0).sum() for own in (first, second)]
        differences.append(shares[1]["sum"] / shares[1]["count"] - shares[0]["sum"] / shares[0]["count"])
    found = compared.differences[1]
    low, high = np.quantile(differences, [0.025, 0.975])
    assert found.value == pytest.approx(values["embedding_mean"][0] - values["attention"][0])
    assert (found.low or found.value, found.high or found.value) == (
        pytest.approx(low, abs=0.03),
        pytest.approx(high, abs=0.03),
    )
