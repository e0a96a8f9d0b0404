"""Pages of predicted slides: which are written, what is in them, and what is refused."""

import json
import re
from hashlib import sha256

import numpy as np
import pytest
import torch
from omegaconf import OmegaConf

from milpath.config.roots import PredictConfig
from milpath.data.store.bag_store_writer import BagStoreWriter
from milpath.inference.annotations.slide_answer import SlideAnswer
from milpath.inference.prediction_folder import file_name
from milpath.inference.slide_page.attention_layer import draw_layer
from milpath.inference.slide_page.image_pyramid import array_source
from milpath.inference.slide_page.page_html import ASSETS, LICENCE, OPENSEADRAGON, slide_html
from milpath.models import AttentionMIL, save_network
from milpath.predict import run
from tests.conftest import REPOSITORY

EVIL = "../<script>alert(1)</script>%"
# The file that the authors published as version 6.1.1.
PUBLISHED = "14d587cd3ee7c4861f1a41077ce642029364a21029956ba635bd8fb1202cf9ad"


@pytest.fixture(scope="module")
def workplace(tmp_path_factory):
    """A store of tiles, the second slide without positions, one of features, and a network of each."""
    folder = tmp_path_factory.mktemp("pages")
    rng = np.random.default_rng(0)
    with BagStoreWriter(folder / "store", extra={"downsample": 4.0, "microns_per_pixel": 2.0}) as writer:
        for name in (EVIL, "nowhere"):
            x = np.arange(5) * 16.0 + 160 if name == EVIL else np.full(5, np.nan)
            places = {"x": x, "y": x * 0, "level": np.zeros(5, int)}
            writer.add(name, rng.integers(0, 255, (5, 16, 16, 3), dtype=np.uint8), {}, places)
    with BagStoreWriter(folder / "features") as writer:
        writer.add("a", rng.normal(size=(3, 8)).astype(np.float32), {}, {"x": np.arange(3), "y": np.zeros(3)})
    torch.manual_seed(0)
    for name, encoder in (
        ("tiles", {"name": "tile_cnn", "tile_size": 16, "embedding_dim": 8}),
        ("features", {"name": "linear", "num_features": 8, "hidden_dims": [4]}),
    ):
        card = {"class_names": ("benign", "malignant"), "defer_below": 0.99, "tiling": {"tile_size": 16}}
        save_network(AttentionMIL(encoder=encoder), folder / f"{name}.pt", **card)
    return folder


def _predict(workplace, output, network="tiles", store="store", **words):
    words = {"checkpoint": str(workplace / f"{network}.pt"), "slides": str(workplace / store), "device": "cpu"} | words
    words |= {"output": str(output), "pictures": False, "formats": ["viewer"]}
    return run(OmegaConf.merge(OmegaConf.structured(PredictConfig), words))


@pytest.fixture(scope="module")
def predicted(workplace):
    assert _predict(workplace, workplace / "out") == 0
    return workplace / "out"


def _data(page):
    return json.loads(re.search(r'<script type="application/json" id="data">(.*?)</script>', page, re.DOTALL)[1])


def test_a_page_has_the_answer_its_warning_and_the_tiles_in_order(predicted):
    page = (predicted / f"viewer/slides/{file_name(EVIL)}.html").read_text()
    assert re.search(r"Predicted (benign|malignant), probability 0\.\d{3}\.", page)
    assert "Refer to a person" in page
    assert "This checkpoint has no model of familiar slides" in page
    assert re.search(r'<th scope="row">probability of malignant</th><td>0\.\d{1,4}</td>', page)
    assert "<script>alert(1)" not in page
    data = _data(page)
    # The tiles are put together from the corner of the first one.
    assert data["pyramid"]["width"] == 80
    assert data["microns_per_pixel"] == 2.0
    assert sorted(tile["x0"] for tile in data["tiles"]) == [0, 64, 128, 192, 256]
    weights = [float(value) for value in re.findall(r"weight ([\d.e-]+)<br>", page)]
    assert weights == sorted(weights, reverse=True)
    assert len(weights) == 5


def test_a_page_says_its_warning_once_and_the_spread_of_folds_without_their_list():
    corners = np.arange(2) * 32.0
    layer = draw_layer("Attention", np.array([0.2, 0.8]), corners, corners, 32, (64, 64), (0, 1), "viridis")
    warning = "trained on synthetic slides: says nothing about real tissue"
    cells = {"probability_malignant": "0.9", "fold_spread": "0.0125", "fold_predictions": "[[0.1, 0.9], [0.2, 0.8]]"}
    answer = SlideAnswer("a", "malignant", True, {**cells, "warning": warning})
    source = array_source(np.zeros((64, 64, 3), np.uint8), 1.0)
    page = slide_html("a", source, [layer], [], answer=answer, warning=warning)
    assert page.count("rained on synthetic slides") == 1
    assert "Refer to a person, whatever the probability." in page
    assert '<th scope="row">standard deviation between folds</th><td>0.0125</td>' in page
    assert "fold predictions" not in page
    assert "[[0.1" not in page


def test_only_what_has_a_place_gets_a_page_and_the_rest_is_said(predicted, workplace, tmp_path, capsys):
    names = [path.name for path in (predicted / "viewer/slides").iterdir()]
    assert sorted(names) == sorted([f"{file_name(EVIL)}.html", f"{file_name(EVIL)}_files"])
    index = (predicted / "viewer/index.html").read_text()
    assert "%252E%252E" in index, "the name of the file in a link"
    assert "nowhere (no page)" in index
    assert "<script>" not in index
    assert _predict(workplace, tmp_path / "out") == 0
    assert "1 slide without a page in viewer/: the positions of the tiles are unknown" in capsys.readouterr().err


def test_overwriting_takes_away_the_pages_before(workplace, tmp_path):
    assert _predict(workplace, tmp_path / "out") == 0
    (tmp_path / "out/viewer/slides/old.html").write_text("of a slide that is no longer there")
    assert _predict(workplace, tmp_path / "out", overwrite=True) == 0
    assert not (tmp_path / "out/viewer/slides/old.html").exists()


def test_what_has_no_pixels_or_too_few_is_refused_before_any_work(workplace, tmp_path):
    with pytest.raises(ValueError, match=r"a page shows a slide, but .* holds features; set slides_dir=FOLDER"):
        _predict(workplace, tmp_path / "out", "features", "features")
    with pytest.raises(ValueError, match=r"viewer_pixels=100 must be at least 65,536"):
        _predict(workplace, tmp_path / "out", viewer_pixels=100)
    assert not (tmp_path / "out").exists()


def test_openseadragon_is_the_published_file_and_its_licence_goes_with_it(predicted):
    assert sha256((ASSETS / OPENSEADRAGON).read_bytes()).hexdigest() == PUBLISHED
    for name in (OPENSEADRAGON, LICENCE):
        assert (predicted / "viewer" / name).read_bytes() == (ASSETS / name).read_bytes()
    licence = (ASSETS / LICENCE).read_text()
    assert "Redistributions in binary form must reproduce" in licence
    for holder in ("2009 CodePlex Foundation", "2010-2025 OpenSeadragon contributors"):
        assert holder in licence
        assert holder in (REPOSITORY / "NOTICE").read_text()
