"""EvaluatedBags and runs that look like those of a network."""

import json
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pandas as pd
import pytest

from milpath.data.store.bag_store import BagStore
from milpath.data.store.bag_store_writer import BagStoreWriter
from milpath.metrics.evaluated_bags import EvaluatedBags
from milpath.records.prediction_table import Predictions
from milpath.targets.evaluation import evaluate_bags

HOSTILE = ('<script>alert("id")</script>', "../../etc/passwd", "slide & <b>bold</b>", "s/l:i?d#e%20'\"")


def _draw_outcomes(
    num_bags: int, num_classes: int, task: str, seed: int = 0, groups: int | None = None
) -> EvaluatedBags:
    """Labels, and probabilities that know something of them, some of them tied."""
    generator = np.random.default_rng(seed)
    labels = generator.integers(num_classes, size=num_bags)
    logits = generator.normal(size=(num_bags, num_classes)) + 1.5 * np.eye(num_classes)[labels]
    probabilities = np.exp(logits) / np.exp(logits).sum(axis=1, keepdims=True)
    if num_classes == 2:
        positive = np.round(probabilities[:, 1], 2)
        probabilities = np.stack([1 - positive, positive], axis=1)
    return evaluate_bags(labels, probabilities, task, groups=None if groups is None else np.arange(num_bags) % groups)


@pytest.fixture(scope="session")
def draw_outcomes() -> Callable[..., EvaluatedBags]:
    return _draw_outcomes


@pytest.fixture
def binary() -> EvaluatedBags:
    return _draw_outcomes(300, 2, "binary")


@pytest.fixture
def nominal() -> EvaluatedBags:
    return _draw_outcomes(400, 4, "nominal")


@pytest.fixture
def ordinal() -> EvaluatedBags:
    return _draw_outcomes(400, 6, "ordinal")


@dataclass(frozen=True)
class Run:
    """A run folder, its store and the table of its bags."""

    path: Path
    store: BagStore
    bags: pd.DataFrame
    predictions: Predictions


@pytest.fixture(scope="session")
def make_run(tmp_path_factory: pytest.TempPathFactory) -> Callable[..., Run]:
    """Write a run of a network that finds most of the dark tiles planted in some bags, two hostile names among them."""

    def make(num_bags: int = 60, num_classes: int = 2, name: str = "run") -> Run:
        folder = tmp_path_factory.mktemp(name)
        generator = np.random.default_rng(0)
        labels = np.arange(num_bags) % num_classes
        ids = [*HOSTILE, *(f"slide_{number:03d}" for number in range(num_bags - len(HOSTILE)))]
        ids = [ids[number] for number in generator.permutation(num_bags)]
        attention = []
        with BagStoreWriter(folder / "store", extra={"microns_per_pixel": 0.5}) as writer:
            for bag_id, label in zip(ids, labels, strict=True):
                count = int(generator.integers(3, 8))
                planted = (np.arange(count) < label).astype(np.int64)
                tiles = generator.integers(150, 250, (count, 32, 32, 3)).astype(np.uint8)
                tiles[planted > 0] //= 2
                place = np.arange(count) * 32
                provider = ("karolinska", "radboud")[int(generator.integers(2))]
                columns = {"label": int(label), "data_provider": provider, "patient": f"p{generator.integers(20)}"}
                rows = {"x": place % 96, "y": place // 96 * 32, "level": np.zeros(count, int), "tile_label": planted}
                writer.add(bag_id, tiles, columns, rows)
                attention.append(generator.dirichlet(0.5 + 3 * planted).astype(np.float32))
        logits = 2 * np.eye(num_classes)[labels] + generator.normal(size=(num_bags, num_classes))
        probabilities = (np.exp(logits) / np.exp(logits).sum(1, keepdims=True)).astype(np.float32)
        splits = np.array(["train"] * (num_bags // 2) + ["val"] * (num_bags // 5))
        splits = [*splits, *["test"] * (num_bags - len(splits))]
        names = ["benign", "malignant"] if num_classes == 2 else [f"ISUP {number}" for number in range(num_classes)]
        predictions = Predictions(ids, splits, labels, probabilities, attention, names)
        run_dir = folder / "run"
        (run_dir / "logs" / "csv").mkdir(parents=True)
        predictions.write_csv(run_dir / "predictions.csv")
        pd.DataFrame(
            {"epoch": [0, 0, 1, 1], "step": [4, 4, 9, 9], "train/loss": [0.7, None, 0.4, None],
             "val/loss": [None, 0.8, None, 0.5], "val/auroc": [None, 0.7, None, 0.9]}
        ).to_csv(run_dir / "logs" / "csv" / "metrics.csv", index=False)  # fmt: skip
        (run_dir / "config.yaml").write_text("seed: 0\ndata:\n  name: <b>bold</b>\n")
        record = {
            "command": ["python", "-m", "milpath.train", "experiment=panda_attention", "data.class_names=[a,b]"],
            "code": {"commit": "0123abc", "dirty": True},
            "packages": {"torch": "2.5.1"},
            "data": {"labels_sha256": "ab" * 32, "bags_per_class": {"test": [1, 2]}},
        }
        (run_dir / "provenance.json").write_text(json.dumps(record))
        store = BagStore.open(folder / "store")
        return Run(run_dir, store, store.bags, predictions)

    return make


@pytest.fixture(scope="session")
def binary_run(make_run: Callable[..., Run]) -> Run:
    return make_run()
