"""NaN and infinity in a store, in weights or in a configuration never become a call, a metric, a checkpoint or a picture."""

import json
import re
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
import torch
from lightning.pytorch import Trainer

from milpath.data import BagDataModule, StoredBags
from milpath.data.store.bag_store import BagStore
from milpath.data.store.bag_store_writer import BagStoreWriter
from milpath.models import AttentionMIL, load_network, save_network
from milpath.models.output import MILOutput
from milpath.sagemaker import inference
from milpath.training.classifier import MILClassifier
from milpath.viewer.upload_answer import Analyst
from milpath.viewer.upload_check import Limits

NUM_BAGS, NUM_TILES, WIDTH = 20, 4, 6
BAD_BAG, BAD_TILE, BAD_FEATURE = 7, 2, 3
TRAIN = [
    "data=bag_store", "model/encoder=linear", "data.num_folds=5", "data.batch_size=4", "data.augmentation=none",
    "trainer.accelerator=cpu", "trainer.max_epochs=2", "logger=csv", "callbacks.progress=null", "report=false",
]  # fmt: skip


def write_store(
    path: Path, value: float | None = None, dtype: str = "float32", bag: int = BAD_BAG, scale: float = 1.0
) -> Path:
    rng = np.random.default_rng(0)
    with BagStoreWriter(path) as writer:
        for number in range(NUM_BAGS):
            features = scale * rng.normal(number % 2, 1, (NUM_TILES, WIDTH)).astype(np.float32)
            if value is not None and number == bag:
                features[BAD_TILE, BAD_FEATURE] = value
            with np.errstate(over="ignore"):
                writer.add(f"slide_{number:02d}", features.astype(dtype), {"label": number % 2})
    return path


def write_network(path: Path, nan_weight: bool = False, encoder: dict | None = None) -> Path:
    torch.manual_seed(0)
    network = AttentionMIL(encoder=encoder or {"name": "linear", "num_features": WIDTH}, attention_dim=4)
    if nan_weight:
        network.classification_layer.weight.data[0, 1] = torch.nan
    tiling = {"tile_size": encoder["tile_size"]} if encoder else {}
    save_network(network, path, class_names=("benign", "malignant"), tiling=tiling)
    return path


def left_in(run_dir: Path) -> set[str]:
    return {path.name for path in run_dir.rglob("*")} & {"metrics.json", "predictions.csv", "best.ckpt", "last.ckpt"}


@pytest.mark.parametrize(
    ("value", "dtype", "said"),
    [(np.nan, "float32", "nan"), (-np.inf, "float32", "-inf"), (1e5, "float16", "inf"), (np.inf, "float64", "inf")],
)
@pytest.mark.parametrize("on_error", ["fail", "skip"])
def test_predict_names_bag_and_tile_and_predicts_the_others(value, dtype, said, on_error, tmp_path, run_here):
    store, network = write_store(tmp_path / "store", value, dtype), write_network(tmp_path / "network.pt")
    words = [f"checkpoint={network}", f"slides={store}", "output=out", "device=cpu", f"on_error={on_error}"]
    status, message = run_here("milpath.predict", *words, cwd=tmp_path)
    assert status == (1 if on_error == "fail" else 0)
    assert "1 slide failed, see out/failures.csv" in message
    (failure,) = pd.read_csv(tmp_path / "out/failures.csv").to_dict("records")
    assert failure["slide"] == f"slide_{BAD_BAG:02d}"
    assert f"tile {BAD_TILE} has {said} in feature {BAD_FEATURE}" in failure["reason"]
    assert failure["reason"].split(":")[0] in message
    table = pd.read_csv(tmp_path / "out/predictions.csv")
    good = write_store(tmp_path / "good", 0.0, dtype)
    assert run_here("milpath.predict", words[0], f"slides={good}", "output=whole", words[3], cwd=tmp_path)[0] == 0
    expected = pd.read_csv(tmp_path / "whole/predictions.csv")
    pd.testing.assert_frame_equal(table, expected.drop(index=BAD_BAG).reset_index(drop=True), atol=1e-6)


def test_predict_refuses_where_no_bag_has_a_finite_answer(tmp_path, run_here):
    with BagStoreWriter(tmp_path / "store") as writer:
        writer.add("only", np.full((2, WIDTH), np.nan, np.float32), {"label": 0})
    network = write_network(tmp_path / "network.pt")
    words = [f"checkpoint={network}", f"slides={tmp_path / 'store'}", "output=out", "device=cpu", "on_error=skip"]
    status, message = run_here("milpath.predict", *words, cwd=tmp_path)
    assert status == 1
    assert "none of the 1 bags has a finite prediction; first: bag 'only' of" in message
    assert not (tmp_path / "out/predictions.csv").exists()


def test_finite_features_that_overflow_the_network_are_no_prediction(tmp_path, run_here):
    store, path = write_store(tmp_path / "store", 3e38), write_network(tmp_path / "network.pt")
    network = load_network(path)
    for parameter in network.tile_encoder.parameters():
        parameter.data.mul_(1e3)
    save_network(network, path)
    words = [f"checkpoint={path}", f"slides={store}", "output=out", "device=cpu", "on_error=skip"]
    status, message = run_here("milpath.predict", *words, cwd=tmp_path)
    assert status == 0
    assert f"for bag 'slide_{BAD_BAG:02d}' is not finite: its tiles are finite" in message
    assert np.isfinite(pd.read_csv(tmp_path / "out/predictions.csv")["probability_positive"]).all()


@pytest.mark.parametrize("way", ["predict", "evaluate", "endpoint", "app", "train"])
def test_a_network_with_one_weight_that_is_no_number_answers_nowhere(way, tmp_path, run_here):
    encoder = {"name": "tile_cnn", "tile_size": 16, "embedding_dim": 8} if way == "app" else None
    network = write_network(tmp_path / "network.pt", nan_weight=True, encoder=encoder)
    expected = r"network.pt: weight 'classification_layer.weight' has nan at \[0, 1\]"
    if way == "endpoint":
        with pytest.raises(ValueError, match=expected):
            inference.model_fn(str(tmp_path))
        return
    if way == "app":
        with pytest.raises(ValueError, match=expected):
            Analyst(network, Limits())
        return
    store = write_store(tmp_path / "store")
    words = {
        "predict": ["output=out", f"checkpoint={network}", f"slides={store}"],
        "evaluate": [
            "data=bag_store",
            f"data.path={store}",
            "data.class_names=[benign,malignant]",
            "run_name=out",
            f"checkpoint={network}",
        ],
        "train": [*TRAIN, f"data.path={store}", "run_name=out", "resume_from=auto"],
    }[way]
    folder = tmp_path / ("out" if way == "predict" else "runs/out")
    if way == "train":
        assert run_here("milpath.train", *words, cwd=tmp_path)[0] == 0
        (folder / "metrics.json").unlink()
        last = folder / "checkpoints/last.ckpt"
        content = torch.load(last, weights_only=True)
        content["state_dict"]["network.classification_layer.weight"][0, 1] = torch.nan
        del content["milpath"]["digests"]  # which would tell that the file was changed
        (folder / "checkpoints/best.ckpt").unlink()
        torch.save(content, last)
        words = [word if not word.startswith("trainer.max_epochs") else "trainer.max_epochs=3" for word in words]
        expected = expected.replace("network.pt: weight '", "last.ckpt: weight 'network.")
    status, message = run_here(f"milpath.{way}", *words, cwd=tmp_path)
    assert status == 1
    assert re.search(expected, message), message
    assert not (folder / "metrics.json").exists()
    assert way == "train" or not left_in(folder)


@pytest.mark.parametrize(
    ("split", "value", "cache"),
    [
        ("train", np.nan, "never"), ("train", -np.inf, "always"), ("val", np.inf, "never"), ("val", np.nan, "always"),
        ("test", -np.inf, "never"),
    ],
)  # fmt: skip
def test_training_stops_at_a_feature_that_is_no_number(split, value, cache, tmp_path, run_here):
    store = write_store(tmp_path / "store")
    module = BagDataModule(StoredBags(store), num_folds=5, stores_dir=str(tmp_path / "stores"))
    module.setup()
    bag = int(module.bag_ids(split)[0].removeprefix("slide_"))
    bad = write_store(tmp_path / "bad", value, bag=bag)
    words = [*TRAIN, f"data.path={bad}", "data.standardize=false", f"data.device_cache={cache}", "run_name=r"]
    status, message = run_here("milpath.train", *words, cwd=tmp_path)
    assert status == 1
    assert f"ValueError: bag 'slide_{bag:02d}' of" in message
    assert f"tile {BAD_TILE} has {value} in feature {BAD_FEATURE}" in message
    assert "Traceback" not in message
    assert not (tmp_path / "runs/r/metrics.json").exists()
    if split != "test":
        assert "best.ckpt" not in left_in(tmp_path / "runs")


def test_statistics_of_the_training_split_name_the_bag_and_evaluation_the_tested_one(tmp_path, run_here):
    bad, network = write_store(tmp_path / "bad", np.nan), write_network(tmp_path / "network.pt")
    words = [*TRAIN, f"data.path={bad}", "data.standardize=true", "run_name=r", f"data.fold={BAD_BAG % 5}"]
    status, message = run_here("milpath.train", *words, cwd=tmp_path)
    assert status == 1
    assert f"bag 'slide_{BAD_BAG:02d}' of" in message
    words = [f"checkpoint={network}", "data=bag_store", f"data.path={bad}", "data.num_folds=1", "splits=[test]"]
    names = "data.class_names=[benign,malignant]"
    status, message = run_here("milpath.evaluate", *words, names, "run_name=e", "trainer.accelerator=cpu", cwd=tmp_path)
    assert status == 1
    assert f"bag 'slide_{BAD_BAG:02d}' of" in message
    assert f"tile {BAD_TILE} has nan in feature {BAD_FEATURE}" in message
    assert not left_in(tmp_path / "runs/e")


def test_a_table_reports_the_folds_of_a_bag_that_is_no_number_as_failed(tmp_path, run_here):
    bad = write_store(tmp_path / "bad", np.nan)
    words = [word for word in TRAIN if not word.startswith(("data.num_folds", "logger", "callbacks.progress"))]
    words += [f"data.path={bad}", "data.standardize=false", "methods=[attention]", "folds=3", "repeats=1", "output=out"]
    status, message = run_here("milpath.table", *words, "trainer.max_epochs=1", cwd=tmp_path)
    assert status == 1, message
    failures = list((tmp_path / "out/runs").rglob("failure.txt"))
    assert len(failures) == 3  # the bag is trained on, validates or is tested in each of the three
    assert all(f"bag 'slide_{BAD_BAG:02d}' of" in path.read_text() for path in failures)
    assert not list((tmp_path / "out/runs").rglob("metrics.json"))
    assert "NaN" not in (tmp_path / "out/table.json").read_text()


@pytest.mark.parametrize("validated", [True, False])
def test_a_run_that_diverges_in_its_last_step_leaves_no_checkpoint_of_it(validated, tmp_path, run_here):
    store = write_store(tmp_path / "store", scale=1e4)
    words = [*TRAIN, f"data.path={store}", "run_name=r", "data.batch_size=20", "trainer.max_epochs=1"]
    words += ["optimizer=sgd", "optimizer.lr=1e38"]
    words += ["data.standardize=false"] if validated else ["data.val_fraction=0", "callbacks=no_validation"]
    status, message = run_here("milpath.train", *words, cwd=tmp_path)
    assert status == 1
    assert "FloatingPointError" in message
    assert "step 1, lr 1e+38" in message
    assert not left_in(tmp_path / "runs/r")


class InfinitelySure(torch.nn.Module):
    """Its answer is infinite on the right side: the loss is 0, and no metric would show it."""

    def __init__(self) -> None:
        super().__init__()
        self.weight = torch.nn.Parameter(torch.ones(1))

    def forward(self, tiles, mask=None):
        logits = self.weight * torch.tensor([[-np.inf, 0.0, -np.inf]]).repeat(len(tiles), 1)
        return MILOutput(logits, torch.full(tiles.shape[:2], 1 / tiles.shape[1]))


@pytest.mark.filterwarnings("ignore")  # what Lightning says of itself; the commands drop it too
@pytest.mark.parametrize("step", ["fit", "validate", "predict"])
def test_an_infinite_answer_with_a_loss_of_zero_ends_every_step(step, tmp_path):
    with BagStoreWriter(tmp_path / "store") as writer:
        for number in range(12):
            writer.add(f"slide_{number:02d}", np.zeros((2, WIDTH), np.float32), {"label": [0, 1, 2][number % 3]})
    module = BagDataModule(StoredBags(tmp_path / "store"), num_folds=3, stores_dir=str(tmp_path / "stores"))
    classifier = MILClassifier(
        InfinitelySure(), class_names=("a", "b", "c"), task="nominal",
        optimizer=lambda parameters: torch.optim.SGD(parameters, lr=0.1),
    )  # fmt: skip
    options = {"max_epochs": 1, "num_sanity_val_steps": 0, "logger": False, "enable_checkpointing": False}
    trainer = Trainer(**options, accelerator="cpu", enable_progress_bar=False, enable_model_summary=False)
    expected = "train/loss is" if step == "fit" else "the output of the network for bag 'slide_"
    with pytest.raises((FloatingPointError, ValueError), match=expected):
        if step == "predict":
            module.setup()
            trainer.predict(classifier, dataloaders=module.dataloader("test"))
        else:
            getattr(trainer, step)(classifier, datamodule=module)


@pytest.mark.parametrize(
    ("command", "word", "said"),
    [
        ("train", "optimizer.lr=nan", "optimizer.lr=nan"),
        ("train", "decision.sensitivity=nan", "decision.sensitivity=nan"),
        ("train", "trainer.gradient_clip_val=inf", "trainer.gradient_clip_val=inf"),
        ("predict", "alpha=nan", "alpha=nan"),
        ("table", "search={optimizer.lr:[1e-4,nan]}", "search.optimizer.lr[1]=nan"),
        ("tile", "min_tissue=nan", "min_tissue=nan"),
    ],
)
def test_a_configuration_with_a_number_that_is_none_is_one_line(command, word, said, tmp_path, run_here):
    words = {
        "train": ["data=synthetic"],
        "predict": ["checkpoint=x", "slides=x", "output=out"],
        "table": ["data=synthetic", "methods=[attention]", "output=out"],
        "tile": ["slides=x", "output=out"],
    }[command]
    status, message = run_here(f"milpath.{command}", *words, word, cwd=tmp_path)
    assert status == 1
    assert f"ValueError: {said} is not a finite number" in message


@pytest.mark.parametrize("column", ["x", "tile_label"])
def test_a_tile_that_lies_at_infinity_is_named(column, tmp_path):
    rows = {"x": np.arange(2.0), "y": np.zeros(2), "tile_label": np.zeros(2)}
    with BagStoreWriter(tmp_path / "store") as writer:
        writer.add("a", np.zeros((2, WIDTH), np.float32), {}, rows)
        writer.add("b", np.zeros((2, WIDTH), np.float32), {}, rows | {column: np.array([0, np.inf])})
    with pytest.raises(ValueError, match=rf"tiles.csv has {column}=inf for tile 1 of bag 'b'"):
        _ = BagStore.open(tmp_path / "store").tiles_table


def test_a_label_that_is_no_number_is_named(tmp_path, run_here):
    with BagStoreWriter(tmp_path / "store") as writer:
        for number, label in enumerate([0.0, 1.0, np.inf, 1.0, 0.0]):
            writer.add(f"slide_{number}", np.zeros((2, WIDTH), np.float32), {"label": label})
    status, message = run_here("milpath.train", *TRAIN, f"data.path={tmp_path / 'store'}", "run_name=r", cwd=tmp_path)
    assert status == 1
    assert "label 'inf' of slide 'slide_2' is not a whole number" in message


def test_metrics_of_a_run_are_json_without_nan(tmp_path, run_here):
    store = write_store(tmp_path / "store")
    words = [*TRAIN, f"data.path={store}", "run_name=r", "trainer.max_epochs=1"]
    assert run_here("milpath.train", *words, cwd=tmp_path)[0] == 0

    def refuse(word):
        raise AssertionError(word)

    metrics = json.loads((tmp_path / "runs/r/metrics.json").read_text(), parse_constant=refuse)
    assert metrics.keys() == {"train", "val", "test"}
