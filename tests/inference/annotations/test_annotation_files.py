"""Annotation files of a prediction: which are written, where, and when."""

from xml.etree import ElementTree

import numpy as np
import pytest
import torch
from omegaconf import OmegaConf

from milpath.config.roots import PredictConfig
from milpath.data.store.bag_store import BagStore
from milpath.data.store.bag_store_writer import BagStoreWriter
from milpath.inference.annotations.slide_answer import SlideAnswer
from milpath.inference.pictures.bag_pictures import BagPictures
from milpath.inference.predict_bags import BagPrediction
from milpath.models import AttentionMIL, save_network
from milpath.predict import run
from tests import qupath_rules

CLASSES = ("benign", "malignant")


@pytest.fixture(scope="module")
def workplace(tmp_path_factory):
    """A store of two slides, one of which was scanned away from the corner of its plane."""
    folder = tmp_path_factory.mktemp("annotated")
    rng = np.random.default_rng(0)
    with BagStoreWriter(folder / "store", extra={"downsample": 4.0}) as writer:
        for name, corner in (("plain", 0), ("scanned", 1000)):
            places = {"x": np.arange(5) * 16 + corner // 4, "y": np.full(5, 16), "level": np.zeros(5, int)}
            tiles = rng.integers(0, 255, (5, 16, 16, 3), dtype=np.uint8)
            writer.add(name, tiles, {"bounds_x0": corner, "bounds_y0": 0}, places)
    torch.manual_seed(0)
    network = AttentionMIL(encoder={"name": "tile_cnn", "tile_size": 16, "embedding_dim": 8})
    save_network(network, folder / "network.pt", class_names=CLASSES, threshold=0.4, tiling={"tile_size": 16})
    return folder


def _predict(workplace, name, **words):
    words = {"checkpoint": str(workplace / "network.pt"), "slides": str(workplace / "store"), "device": "cpu"} | words
    words["output"] = str(workplace / name)
    assert run(OmegaConf.merge(OmegaConf.structured(PredictConfig), words)) == 0
    return workplace / name


def test_formats_without_pictures_are_written_and_nothing_else(workplace):
    output = _predict(workplace, "xml", formats=["asap"], pictures=False)
    assert sorted(path.name for path in output.iterdir()) == [
        "asap",
        "attention.csv",
        "prediction.json",
        "predictions.csv",
    ]
    assert sorted(path.name for path in (output / "asap").iterdir()) == ["plain.xml", "scanned.xml"]
    assert not (_predict(workplace, "none", pictures=False) / "geojson").exists()


def test_qupath_counts_from_the_scanned_area_and_asap_from_the_corner_of_the_plane(workplace):
    output = _predict(workplace, "both", formats=["geojson", "asap"], pictures=False)
    first, *_ = qupath_rules.read(output / "geojson/scanned.geojson")
    root = ElementTree.parse(output / "asap/scanned.xml").getroot()
    assert first.roi.bounds[:2] == (0, 64)
    assert root.find("Annotations/Annotation/Coordinates/Coordinate").attrib == {"Order": "0", "X": "1000", "Y": "64"}


def test_overwriting_takes_away_the_annotations_of_the_prediction_before(workplace):
    output = _predict(workplace, "again", formats=["geojson", "asap"], pictures=False)
    _predict(workplace, "again", formats=["geojson"], pictures=False, overwrite=True)
    assert not (output / "asap").exists()
    assert len(list((output / "geojson").iterdir())) == 2


def test_how_unfamiliar_a_slide_and_its_tiles_are_is_in_qupath_and_on_the_page(workplace, tmp_path):
    store = BagStore.open(workplace / "store")
    pictures = BagPictures(store, tmp_path, formats=["geojson"], with_pictures=False, viewer_pixels=100_000)
    strange = np.array([0, 10, 20, 99, 100], np.float32)
    bag = BagPrediction(
        0, "plain", np.array([0.1, 0.9]), np.full(5, 0.2, np.float32), unfamiliarity=np.array([1.0, 99.5, 8.0]),
        tile_unfamiliarity=strange,
    )  # fmt: skip
    cells = {"probability_malignant": "0.9", "unfamiliar": "1", "unfamiliarity": "99.5"}
    pictures.draw(bag, SlideAnswer("plain", "malignant", True, cells))
    *tiles, answer = qupath_rules.read(tmp_path / "geojson/plain.geojson")
    assert [each.measurements["unfamiliarity"] for each in tiles] == strange.tolist()
    assert answer.measurements["unfamiliarity"] == 99.5
    assert answer.name == "plain: malignant, probability 0.900; refer to a person: unfamiliar"
    page = (tmp_path / "viewer/slides/plain.html").read_text()
    assert "whatever the probability: the network does not know slides like this one" in page
    assert "Predicted malignant, probability 0.900." in page
    assert "More unfamiliar than 99.5% of the validation bags of this network." in page
    assert "<option>Unfamiliarity, percent of validation tiles that are less so</option>" in page
