"""Every experiment trains a batch and is tested, on real data where they are at hand."""

import json
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from PIL import Image

from milpath.config.roots import CONFIG_DIR
from milpath.search.cross_validation import compose_training
from milpath.train import run

SYNTHETIC = [
    "data=synthetic",
    "data.num_slides=12",
    "data.num_tiles=2",
    "data.tile_size=32",
    "model.encoder.embedding_dim=8",
]


@pytest.fixture(scope="module")
def words(shared_data, tmp_path_factory) -> dict[str, list[str]]:
    """What each experiment needs beside its name."""
    folder = tmp_path_factory.mktemp("data")
    rng = np.random.default_rng(0)
    for name, width in (("musk2", 166), ("elephant", 230)):
        bag = np.repeat(np.arange(40), 3)
        np.savez(folder / f"{name}.npz", X=rng.normal(size=(120, width)), bag=bag, y=np.arange(40) % 2)
    colon = folder / "colon"
    (colon / "images").mkdir(parents=True)
    nuclei = []
    for number in range(12):
        Image.fromarray(rng.integers(0, 255, (500, 500, 3), dtype=np.uint8)).save(colon / f"images/{number}.jpg")
        kind = "epithelial" if number % 2 else "fibroblast"
        nuclei += [{"image_id": str(number), "type": kind, "x": 20 * k, "y": 30 * k} for k in range(3)]
    pd.DataFrame(nuclei).to_csv(colon / "nuclei.csv", index=False)
    labels = pd.DataFrame({"image_id": [str(n) for n in range(12)], "label": [n % 2 for n in range(12)]})
    labels.to_csv(colon / "labels.csv", index=False)
    classic = f"data.path={shared_data / 'mil_classic'}"
    return {
        "panda_attention": SYNTHETIC,
        "panda_article": SYNTHETIC,
        "ucsb_breast": [f"data.path={shared_data / 'ucsb_breast'}", "data.tile_size=256", "data.max_bags=16"],
        "mnist_bags": [f"data.path={shared_data / 'mnist'}", "data.num_train_bags=8", "data.num_test_bags=8"],
        "musk1": [classic],
        "fox": [classic],
        "tiger": [classic],
        "musk2": [f"data.path={folder}"],
        "elephant": [f"data.path={folder}"],
        "colon_cancer": [f"data.path={colon}"],
    }


@pytest.mark.filterwarnings("ignore")
@pytest.mark.parametrize("experiment", sorted(path.stem for path in Path(CONFIG_DIR / "experiment").glob("*.yaml")))
def test_every_experiment_trains_a_batch_and_is_tested(experiment, words, tmp_path):
    config = compose_training(
        [
            f"experiment={experiment}",
            *words[experiment],
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
