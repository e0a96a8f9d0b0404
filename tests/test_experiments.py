"""Every experiment trains a batch and is tested, on drawn data and on real data where they are at hand."""

import json
from pathlib import Path

import numpy as np
import pandas as pd
import pytest

from milpath.config.roots import CONFIG_DIR
from milpath.data.store.bag_store_writer import BagStoreWriter
from milpath.search.composition import compose_training
from milpath.train import run
from tests.drawn_data import draw_breast_images, draw_classic, draw_colon, draw_colon_images, draw_digits, draw_features

SYNTHETIC = [
    "data=synthetic",
    "data.num_slides=12",
    "data.num_tiles=2",
    "data.tile_size=32",
    "model.encoder.embedding_dim=8",
]


BREAST = ["data.tile_size=256", "data.max_bags=16"]
COLON_IMAGES = ["data.tile_size=262", "data.max_bags=16", "data.num_folds=2"]
DIGITS = ["data.num_train_bags=8", "data.num_test_bags=8"]
REAL = {
    "ucsb_breast": ("ucsb_breast", BREAST),
    "glas": ("glas", COLON_IMAGES),
    "mnist_bags": ("mnist", DIGITS),
    "musk1": ("mil_classic", []),
    "fox": ("mil_classic", []),
}

# Sets of images whose frozen encoder sees every image, also those that `max_bags` leaves out; and the column of their groups.
GROUPS = {"ucsb_breast": "tma_group", "glas": "patient"}


@pytest.fixture(scope="module")
def words(tmp_path_factory) -> dict[str, list[str]]:
    """What each experiment needs beside its name, to train on drawn data."""
    folder = tmp_path_factory.mktemp("data")
    classic = [f"data.path={draw_classic(folder / 'mil_classic')}"]
    digits = [f"data.path={draw_digits(folder / 'mnist')}", *DIGITS]
    return {
        "panda_attention": SYNTHETIC,
        "panda_article": SYNTHETIC,
        "ucsb_breast": [f"data.path={draw_breast_images(folder / 'ucsb_breast', 4)}", *BREAST],
        "glas": [f"data.path={draw_colon_images(folder / 'glas', 3)}", *COLON_IMAGES],
        **dict.fromkeys(("mnist_bags", "mnist_bags_article"), digits),
        **dict.fromkeys(("musk1", "musk2", "fox", "tiger", "elephant", "classic_article"), classic),
        "own_images": [f"data.path={store_of(folder / 'tiles', 'tiles')}", "model.encoder.embedding_dim=8"],
        "frozen_encoder": [f"data.path={store_of(folder / 'extracted', 'features')}"],
        "colon_cancer": [f"data.path={draw_colon(folder / 'colon')}"],
        "features": [
            f"data.path={draw_features(folder / 'features')}",
            f"data.labels={folder / 'features/labels.csv'}",
        ],
    }


def store_of(folder: Path, kind: str) -> Path:
    """Write twelve bags of tiles or features that differ by their label."""
    rng = np.random.default_rng(0)
    with BagStoreWriter(folder) as writer:
        for number in range(12):
            tiles = rng.integers(0, 255, (3, 32, 32, 3), np.uint8)
            features = rng.standard_normal((3, 16), np.float32) + number % 2
            writer.add(f"image_{number:02d}", tiles if kind == "tiles" else features, {"label": number % 2})
    return folder


def some_images(folder: Path, some: Path, group: str) -> Path:
    """Return a folder with the first image of each class of each group, up to four of a class."""
    table = pd.read_csv(folder / "labels.csv")
    table = table.groupby([group, "label"], sort=False).head(1).groupby("label").head(4)
    (some / "images").mkdir(parents=True)
    for name in table.iloc[:, 0]:
        path = next((folder / "images").glob(f"{Path(name).stem}.*"))
        (some / "images" / path.name).symlink_to(path)
    table.to_csv(some / "labels.csv", index=False)
    return some


def train_a_batch(experiment, words, tmp_path):
    config = compose_training(
        [
            f"experiment={experiment}",
            *words,
            "trainer.max_epochs=1",
            "trainer.limit_train_batches=1",
            "trainer.accelerator=cpu",
            "trainer.enable_progress_bar=false",
            "callbacks.progress=null",
            "logger=none",
            "report=false",
            f"paths.runs_dir={tmp_path / 'runs'}",
            f"paths.stores_dir={tmp_path / 'stores'}",
            "run_name=run",
        ]
    )
    metrics = run(config)
    assert 0 <= metrics["test"]["accuracy"] <= 1
    assert json.loads((tmp_path / "runs/run/metrics.json").read_text()) == metrics


@pytest.mark.filterwarnings("ignore")
@pytest.mark.parametrize("experiment", sorted(path.stem for path in Path(CONFIG_DIR / "experiment").glob("*.yaml")))
def test_every_experiment_trains_a_batch_and_is_tested(experiment, words, tmp_path):
    train_a_batch(experiment, words[experiment], tmp_path)


@pytest.mark.filterwarnings("ignore")
@pytest.mark.parametrize("experiment", REAL)
def test_an_experiment_on_published_data_trains_a_batch_of_them(experiment, shared_data, tmp_path):
    name, words = REAL[experiment]
    folder = shared_data / name
    if experiment in GROUPS:
        folder = some_images(folder, tmp_path / "some", GROUPS[experiment])
    train_a_batch(experiment, [f"data.path={folder}", *words], tmp_path)
