"""The target of a stain normalisation: fitted on training bags, kept by the checkpoint, given by a file."""

import json
import shutil
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
import torch
from PIL import Image

from milpath.data.loading.fit_stains import fit_stain_target
from milpath.data.sources.drawn_tissue import STAINS
from milpath.data.store.bag_store import BagStore
from milpath.data.store.bag_store_writer import BagStoreWriter
from milpath.models import load_network
from milpath.runs.chosen_parts.stain_target_file import read_stain_target
from tests.commands import DETERMINED_RUN, here
from tests.models.stains.drawn_stains import stained

pytestmark = pytest.mark.command
TRAIN, EVALUATE = "milpath.train", "milpath.evaluate"
RUN = [*DETERMINED_RUN, "data.num_folds=5", "data.augmentation=full", "model.encoder.dropout=0.25"]
MACENKO = "model.encoder.stain_normalisation=macenko"


@pytest.fixture(scope="module")
def workplace(tmp_path_factory) -> Path:
    folder = tmp_path_factory.mktemp("stains")
    assert here(TRAIN, *RUN, MACENKO, "run_name=first", cwd=folder) == 0
    return folder


def training_store(folder: Path) -> BagStore:
    return BagStore.open(next((folder / "stores").glob("Synthetic*")))


def test_the_target_is_fitted_on_training_bags_only(workplace, tmp_path):
    written = json.loads((workplace / "runs/first/stain_target.json").read_text())
    store = training_store(workplace)
    splits = pd.read_csv(workplace / "runs/first/splits.csv").set_index("id")["split"]
    # A store in which every other bag is black has the same target.
    with BagStoreWriter(tmp_path / "store") as writer:
        for index, name in enumerate(store.bags["bag_id"]):
            tiles = store.read(index)
            writer.add(name, tiles if splits[name] == "train" else np.zeros_like(tiles), {"label": 0})
    training = [index for index, name in enumerate(store.bags["bag_id"]) if splits[name] == "train"]
    again = fit_stain_target(BagStore.open(tmp_path / "store"), training, "macenko")
    assert written == {"stain_normalisation": "macenko", "stain_target": again}
    every = fit_stain_target(store, range(len(store)), "macenko")
    assert every != again


def test_the_target_of_drawn_tissue_is_what_it_was_drawn_with(workplace):
    target = json.loads((workplace / "runs/first/stain_target.json").read_text())["stain_target"]
    for name, drawn in zip(("haematoxylin", "eosin"), STAINS, strict=True):
        cosine = np.dot(target[name], drawn / np.linalg.norm(drawn))
        assert np.degrees(np.arccos(cosine)) < 6, name


def test_the_checkpoint_normalises_as_the_training_did(workplace):
    network = load_network(workplace / "runs/first/checkpoints/best.ckpt")
    written = json.loads((workplace / "runs/first/stain_target.json").read_text())
    assert network.encoder["stain_target"] == written["stain_target"]
    words = [f"checkpoint={workplace}/runs/first/checkpoints/best.ckpt", "run_name=again", "report=false"]
    assert here(EVALUATE, *words, cwd=workplace) == 0
    first, again = (json.loads((workplace / f"runs/{name}/metrics.json").read_text()) for name in ("first", "again"))
    assert again["test"] == pytest.approx(first["test"], abs=1e-6)


def test_a_resumed_run_ends_with_the_same_weights(workplace):
    assert here(TRAIN, *RUN, MACENKO, "run_name=parts", "trainer.max_epochs=1", cwd=workplace) == 0
    assert here(TRAIN, *RUN, MACENKO, "run_name=parts", "resume_from=auto", cwd=workplace) == 0
    paths = [workplace / f"runs/{name}/checkpoints/last.ckpt" for name in ("first", "parts")]
    weights = [torch.load(path, weights_only=True)["state_dict"] for path in paths]
    assert weights[0].keys() == weights[1].keys()
    assert all(torch.equal(weights[0][name], weights[1][name]) for name in weights[0])


def test_a_run_goes_on_only_with_its_own_stains(workplace, capfd):
    assert here(TRAIN, *RUN, "run_name=first", "resume_from=auto", cwd=workplace) == 1
    assert "model.encoder.stain_normalisation=macenko (now none)" in capfd.readouterr().err


@pytest.mark.filterwarnings("ignore:Found .* in eval mode")
def test_a_frozen_encoder_says_the_same_of_tiles_as_of_its_kept_features(workplace):
    frozen = [*DETERMINED_RUN, "data.num_folds=5", MACENKO, "model.encoder.frozen=true", "run_name=frozen"]
    assert here(TRAIN, *frozen, cwd=workplace) == 0
    assert list((workplace / "stores").glob("features-tile_cnn-*"))
    words = [f"checkpoint={workplace}/runs/frozen/checkpoints/best.ckpt", "run_name=of_tiles", "report=false"]
    assert here(EVALUATE, *words, cwd=workplace) == 0
    tables = [
        pd.read_csv(workplace / f"runs/{name}/predictions.csv").set_index("id") for name in ("frozen", "of_tiles")
    ]
    of_features, of_tiles = (table["probability_malignant"] for table in tables)
    assert len(of_tiles) >= 4
    np.testing.assert_allclose(of_tiles, of_features.loc[of_tiles.index], atol=1e-5)


def test_a_target_from_a_file_is_used_as_it_is(workplace):
    shutil.copy(workplace / "runs/first/stain_target.json", workplace / "given.json")
    words = [*RUN, MACENKO, "model.encoder.stain_target_path=given.json", "run_name=given", "trainer.max_epochs=1"]
    assert here(TRAIN, *words, "data.fold=1", cwd=workplace) == 0
    written = json.loads((workplace / "runs/given/stain_target.json").read_text())
    assert written == json.loads((workplace / "given.json").read_text())
    assert (
        load_network(workplace / "runs/given/checkpoints/best.ckpt").encoder["stain_target"] == written["stain_target"]
    )


def test_a_picture_is_a_target(tmp_path):
    tile = stained(1, 1, 256, haematoxylin=(0.6, 0.75, 0.3), eosin=(0.15, 0.95, 0.25), amounts=(1.1, 0.8))[0, 0]
    Image.fromarray((tile * 255).round().byte().permute(1, 2, 0).numpy()).save(tmp_path / "target.png")
    target = read_stain_target(tmp_path / "target.png", "macenko")
    expected = np.array([0.6, 0.75, 0.3])
    np.testing.assert_allclose(target["haematoxylin"], expected / np.linalg.norm(expected), atol=0.02)
    np.testing.assert_allclose(target["amounts"], [1.1, 0.8], rtol=0.03)


REFUSED = {
    "missing.json": (None, "does not exist"),
    "text.json": ("{", "not JSON"),
    "list.json": ("[1]", "must have stain_normalisation and stain_target"),
    "other.json": (json.dumps({"stain_normalisation": "reinhard", "stain_target": {}}), "a target of 'reinhard'"),
    "numbers.json": (
        json.dumps({"stain_normalisation": "macenko", "stain_target": {"eosin": [1]}}),
        "must have haemat",
    ),
    "text.png": ("no picture", "neither a stain_target.json nor a picture"),
}


@pytest.mark.parametrize("name", list(REFUSED))
def test_another_file_is_refused_in_one_line(name, tmp_path):
    content, said = REFUSED[name]
    if content is not None:
        (tmp_path / name).write_text(content)
    with pytest.raises((ValueError, FileNotFoundError), match=said) as refusal:
        read_stain_target(tmp_path / name, "macenko")
    assert "\n" not in str(refusal.value)


def test_a_picture_without_tissue_is_refused(tmp_path):
    Image.new("RGB", (128, 128), "white").save(tmp_path / "white.png")
    with pytest.raises(ValueError, match="too little stained tissue"):
        read_stain_target(tmp_path / "white.png", "reinhard")


def test_training_bags_without_tissue_are_refused(tmp_path):
    with BagStoreWriter(tmp_path / "store") as writer:
        for name in "abc":
            writer.add(name, np.full((2, 16, 16, 3), 255, np.uint8), {"label": 0})
    with pytest.raises(ValueError, match="none of 3 training bags"):
        fit_stain_target(BagStore.open(tmp_path / "store"), [0, 1, 2], "macenko")


def test_a_file_without_a_method_is_refused(workplace, capfd):
    words = [*RUN, "model.encoder.stain_target_path=given.json", "run_name=unused"]
    assert here(TRAIN, *words, cwd=workplace) == 1
    assert "has no use without model.encoder.stain_normalisation" in capfd.readouterr().err
