"""Attention and contributions per class, from a checkpoint to tables, outlines and pictures."""

import json
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
import torch
from omegaconf import OmegaConf
from PIL import Image

from milpath.config.roots import PredictConfig
from milpath.data.store.bag_store import BagStore
from milpath.data.store.bag_store_writer import BagStoreWriter
from milpath.drawing.heatmap import draw_overlay
from milpath.drawing.picture_frame import content_origin
from milpath.inference.pictures.class_overlays import draw_class_overlays, map_limits
from milpath.inference.prediction_files import ATTENTION_COLUMNS, PredictionFiles
from milpath.models import CLAMMB, AdditiveMIL, load_network, save_network
from milpath.models.network_input import to_network_input
from milpath.predict import run

CLASSES = ("benign", "low grade", "high grade")
SIZE = 32


@pytest.fixture(scope="module")
def store(tmp_path_factory) -> Path:
    rng = np.random.default_rng(0)
    path = tmp_path_factory.mktemp("maps") / "store"
    with BagStoreWriter(path, extra={"microns_per_pixel": 1.0, "downsample": 4.0}) as writer:
        for name, length in (("slide a", 6), ("slide b", 3)):
            places = {"x": np.arange(length) * SIZE, "y": np.zeros(length, int), "level": np.zeros(length, int)}
            writer.add(name, rng.integers(0, 255, (length, SIZE, SIZE, 3), dtype=np.uint8), {}, places)
    return path


@pytest.fixture(scope="module", params=["attention", "contribution"])
def predicted(request, store, tmp_path_factory) -> tuple[str, Path, Path]:
    """The quantity that has a map per class, the checkpoint and the folder of its predictions."""
    folder = tmp_path_factory.mktemp(request.param)
    torch.manual_seed(0)
    kind = {"attention": CLAMMB, "contribution": AdditiveMIL}[request.param]
    network = kind(encoder={"name": "tile_cnn", "tile_size": SIZE, "embedding_dim": 8}, num_outputs=3)
    save_network(network, folder / "network.pt", class_names=CLASSES, task="nominal", tiling={"tile_size": SIZE})
    words = {"checkpoint": str(folder / "network.pt"), "slides": str(store), "output": str(folder / "out")}
    assert run(OmegaConf.merge(OmegaConf.structured(PredictConfig), words | {"device": "cpu"})) == 0
    return request.param, folder / "network.pt", folder / "out"


def test_the_table_has_a_column_for_each_class_with_the_numbers_of_the_network(predicted, store):
    quantity, checkpoint, output = predicted
    table = pd.read_csv(output / "attention.csv")
    columns = [f"{quantity}_{name}" for name in CLASSES]
    assert list(table.columns) == [*ATTENTION_COLUMNS, *columns]
    opened = BagStore.open(store)
    network = load_network(checkpoint)
    for number, name in enumerate(opened.bags["bag_id"]):
        tiles = torch.from_numpy(np.array(opened.tiles[opened.tile_slice(number)]))
        found = network(to_network_input(tiles)[None])
        expected = found.class_attention if quantity == "attention" else found.contributions
        np.testing.assert_allclose(table.loc[table["id"] == name, columns], expected[0].detach().T, atol=1e-6)
        total = np.ones(3) if quantity == "attention" else found.logits[0].detach()
        np.testing.assert_allclose(table.loc[table["id"] == name, columns].sum(), total, atol=1e-5)


def test_outlines_have_a_measurement_for_each_class(predicted):
    quantity, _, output = predicted
    collection = json.loads((output / "geojson/slide a.geojson").read_text())
    table = pd.read_csv(output / "attention.csv")
    for tile, feature in enumerate(collection["features"][:-1]):
        measured = feature["properties"]["measurements"]
        assert list(measured) == ["attention", "attention rank", *(f"{quantity}_{name}" for name in CLASSES)]
        row = table[(table["id"] == "slide a") & (table["tile"] == tile)].iloc[0]
        assert measured[f"{quantity}_low grade"] == pytest.approx(row[f"{quantity}_low grade"], abs=1e-6)


def test_a_picture_for_each_class_and_slide_is_written(predicted):
    quantity, _, output = predicted
    names = {path.name for path in (output / "pictures").iterdir()}
    for slide in ("slide a", "slide b"):
        assert {f"{slide}_overlay_{quantity}_{name}.jpg" for name in CLASSES} <= names
    with Image.open(output / f"pictures/slide a_overlay_{quantity}_benign.jpg") as picture:
        assert min(picture.size) > 50


def test_maps_of_a_bag_share_one_scale_and_contributions_have_it_on_both_sides():
    maps = {
        "attention_a": np.array([0.9, 0.1]),
        "attention_b": np.array([0.5, 0.5]),
        "contribution_a": np.array([-3.0, 1]),
    }
    assert map_limits(maps) == {"attention_a": (0, 1), "attention_b": (0, 1), "contribution_a": (-3, 3)}
    assert map_limits({"contribution_a": np.zeros(2)}) == {"contribution_a": (-1, 1)}


def test_tiles_that_add_are_red_tiles_that_take_away_are_blue_and_the_others_stay_as_they_are():
    white = np.full((10, 30, 3), 255, np.uint8)
    x, y = np.array([0, 10, 20]), np.zeros(3)
    values = np.array([2.0, -2.0, 0.0])
    picture = draw_overlay(white, values, x, y, 10, 1.0, limits=(-2, 2), signed=True, outlines=False, title="t")
    left, top = content_origin("t")
    adds, takes, neither = (picture.getpixel((left + 5 + 10 * tile, top + 5)) for tile in range(3))
    assert adds[0] > adds[2] + 60
    assert takes[2] > takes[0] + 60
    assert neither == (255, 255, 255)
    with pytest.raises(ValueError, match="limits as far below 0 as above"):
        draw_overlay(white, values, x, y, 10, 1.0, limits=(0, 2), signed=True)


def test_without_positions_there_are_no_class_overlays(tmp_path):
    with BagStoreWriter(tmp_path / "store") as writer:
        writer.add("slide", np.zeros((2, SIZE, SIZE, 3), np.uint8), {})
    assert draw_class_overlays(BagStore.open(tmp_path / "store"), 0, {"attention_a": np.array([0.5, 0.5])}) == {}


def test_a_prediction_that_was_begun_with_other_columns_is_not_continued(tmp_path):
    source = {"checkpoint": "0", "slides": "s"}
    tiles, halves = pd.DataFrame({"x": [0, 64], "y": [0, 0]}), np.array([0.5, 0.5])

    def add(files, name, maps):
        files.add(name, np.array([0.25, 0.75]), "malignant", False, tiles, None, halves, maps)

    with pytest.raises(KeyboardInterrupt), PredictionFiles(tmp_path, ("a", "b"), 0.5, source) as files:
        add(files, "one", {"attention_a": halves})
        raise KeyboardInterrupt
    again = PredictionFiles(tmp_path, ("a", "b"), 0.5, source)
    assert again.done == {"one"}
    with pytest.raises(ValueError, match="was begun with the columns .*attention_a, not .*weight; set another"), again:
        add(again, "two", {})
    with PredictionFiles(tmp_path, ("a", "b"), 0.5, source) as files:
        add(files, "two", {"attention_a": halves})
    table = pd.read_csv(tmp_path / "attention.csv")
    assert table["id"].tolist() == ["one", "one", "two", "two"]
    assert table["attention_a"].tolist() == [0.5] * 4
