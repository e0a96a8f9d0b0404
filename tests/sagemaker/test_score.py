import json
import tarfile

import numpy as np
import pandas as pd
import pytest
from hydra import compose, initialize_config_dir

from milpath import evaluate, train
from milpath.config.roots import CONFIG_DIR
from milpath.records.prediction_table import read_predictions
from milpath.sagemaker import package, score
from milpath.sagemaker.scoring import endpoint_scores
from milpath.targets import target_named
from tests.commands import SMALL_RUN
from tests.sagemaker.loopback_endpoint import served_as

# What Lightning says of itself with this torch, and of small data.
pytestmark = [
    pytest.mark.filterwarnings("ignore:.*LeafSpec"),
    pytest.mark.filterwarnings("ignore:The number of training batches"),
]


def composed(name, *words):
    with initialize_config_dir(str(CONFIG_DIR), version_base="1.3"):
        return compose(name, list(words))


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    return tmp_path_factory.mktemp("score")


@pytest.fixture(scope="module")
def words(folder):
    """Words that every command shares: where runs and stores lie, and the data."""
    data = [word for word in SMALL_RUN if word.startswith("data")]
    return [*data, f"paths.stores_dir={folder}/stores", f"paths.runs_dir={folder}/runs"]


@pytest.fixture(scope="module")
def checkpoint(folder, words):
    """A network that was trained for an epoch, with a threshold and a temperature of its own."""
    kept = [word for word in SMALL_RUN if not word.startswith("data")]
    decision = ["decision.sensitivity=0.9", "decision.calibrate=true"]
    train.run(
        composed("train", *words, *kept, *decision, "model.encoder.tile_size=32", "trainer.max_epochs=1", "run_name=a")
    )
    return folder / "runs" / "a" / "checkpoints" / "best.ckpt"


@pytest.fixture
def endpoint(checkpoint, folder, monkeypatch):
    """The archive of the network, unpacked and served."""
    archive = folder / "model.tar.gz"
    package.run(composed("sagemaker_package", f"checkpoint={checkpoint}", f"output={archive}"))
    with tarfile.open(archive) as file:
        file.extractall(folder / "model", filter="data")
    with served_as("slides", folder / "model", monkeypatch):
        yield "slides"


def scored(words, *more):
    return score.run(composed("sagemaker_score", *words, "endpoint=slides", "region=eu-central-1", *more))


def test_an_endpoint_scores_as_its_checkpoint_is_evaluated(endpoint, checkpoint, words, folder, capsys):
    found = scored(words, "run_name=scored", "splits=[val,test]")
    assert "bags/s" in capsys.readouterr().out
    expected = evaluate.run(
        composed(
            "evaluate",
            f"checkpoint={checkpoint}",
            *words[-2:],
            "run_name=evaluated",
            "trainer.accelerator=cpu",
            "report=false",
            f"paths.run_dir={folder}/runs/evaluated",
        )
    )
    assert found.keys() == expected.keys() == {"val", "test"}
    for split, metrics in expected.items():
        assert found[split] == pytest.approx(metrics, abs=1e-5)
    assert json.loads((folder / "runs" / "scored" / "metrics.json").read_text()) == found
    theirs, ours = (read_predictions(folder / "runs" / name / "predictions.csv") for name in ("evaluated", "scored"))
    assert sorted(ours.bag_ids) == sorted(theirs.bag_ids)
    order = [ours.bag_ids.index(bag_id) for bag_id in theirs.bag_ids]
    np.testing.assert_allclose(ours.probabilities[order], theirs.probabilities, atol=1e-5)
    for position, attention in zip(order, theirs.attention, strict=True):
        np.testing.assert_allclose(ours.attention[position], attention, atol=1e-5)
    tables = [pd.read_csv(folder / "runs" / name / "predictions.csv") for name in ("evaluated", "scored")]
    assert list(tables[0].columns) == list(tables[1].columns)


def test_what_cannot_be_scored_is_one_line(endpoint, words, folder):
    scored(words, "run_name=twice")
    with pytest.raises(FileExistsError, match="already holds results; give another run_name"):
        scored(words, "run_name=twice")
    with pytest.raises(ValueError, match="the endpoint has the classes benign, malignant, but the data have "):
        scored(words, "run_name=other", "data.target=isup", "data.num_folds=2", "data.val_fraction=0.2")
    with pytest.raises(ValueError, match=r"bag '[0-9a-f]{32}': 400"):
        scored(words, "run_name=size", "data.tile_size=48")
    with pytest.raises(ValueError, match=r"splits=\['train2'\]: 'train2' is not one of train, val, test"):
        scored(words, "run_name=none", "splits=[train2]")
    assert not (folder / "runs" / "other").exists()


def test_maps_per_class_in_the_responses_are_in_the_table():
    answer = {"bag_id": "a", "probabilities": {"x": 0.25, "y": 0.75}, "attention": [0.5, 0.5], "label": "y"}
    answers = [answer | {"attention_x": [1.0, 0.0], "attention_y": [0.0, 1.0]}]
    rows = pd.DataFrame({"split": ["test"], "label": [1]})
    table = endpoint_scores._predictions(answers, target_named("binary"), ["x", "y"], rows)
    assert {name: values[0].tolist() for name, values in table.maps.items()} == {
        "attention_x": [1.0, 0.0],
        "attention_y": [0.0, 1.0],
    }
