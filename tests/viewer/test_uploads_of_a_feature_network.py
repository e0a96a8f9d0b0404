"""The app with a network that was trained on features: slides and tiles are encoded as the training slides were."""

import numpy as np
import pandas as pd
import pytest
import torch
from PIL import Image

from milpath.data.store.bag_store import BagStore
from milpath.encoding.extract_features import extract_features, tile_options
from milpath.models import AttentionMIL, load_network, save_network
from milpath.models.encoders import open_encoder
from milpath.slides.cut_slide import cut_slide
from milpath.slides.tiling_options import TileOptions
from milpath.viewer.result_page import render_answer
from milpath.viewer.upload_answer import Analyst
from milpath.viewer.upload_check import Limits
from tests.pyramids import tissue, write_pyramid

pytest.importorskip("timm")
LIMITS = Limits(max_upload_mb=20, max_tiles=100, max_seconds=60)


@pytest.fixture(scope="module")
def workplace(tmp_path_factory):
    """A slide, and a network of its features in float32."""
    folder = tmp_path_factory.mktemp("features")
    write_pyramid(folder / "slides/slide 1.tiff", tissue(120, 130, 1), factors=(4, 1))
    encoder = open_encoder("efficientnet_lite0")
    card = encoder.card.to_dict()
    options = tile_options(card, tile_size=64, microns_per_pixel=1.0)
    extract_features(folder / "slides", folder / "store", encoder, card, options, device="cpu", dtype="float32")
    store = BagStore.open(folder / "store")
    torch.manual_seed(0)
    network = AttentionMIL(encoder={"name": "linear", "num_features": 1280, "hidden_dims": [16]}).eval()
    words = {"tiling": store.description["tiling"], "encoder": store.description["encoder"] | {"dtype": "float32"}}
    save_network(network, folder / "network.pt", class_names=("benign", "malignant"), **words)
    return folder


def test_a_slide_and_its_tiles_are_answered_as_predict_answers_them(workplace, run_here, tmp_path):
    checkpoint = workplace / "network.pt"
    analyst = Analyst(checkpoint, LIMITS)
    (tmp_path / "work").mkdir()
    answer = analyst.answer([workplace / "slides/slide 1.tiff"], tmp_path / "work")
    words = [f"checkpoint={checkpoint}", f"slides={workplace}/slides", "output=out", "device=cpu"]
    status, message = run_here("milpath.predict", *words, cwd=tmp_path)
    assert status == 0, message
    (row,) = pd.read_csv(tmp_path / "out/predictions.csv").to_dict("records")
    expected = row["probability_benign"], row["probability_malignant"]
    np.testing.assert_allclose(answer.probabilities, expected, atol=1e-4)
    assert (answer.name, answer.predicted, answer.num_tiles) == (
        "slide 1",
        row["predicted"],
        BagStore.open(tmp_path / "out/bags").num_tiles,
    )
    assert answer.overlay is not None
    assert BagStore.open(tmp_path / "out/bags").tiles.dtype == np.float32
    # The same tiles, uploaded as files; their places are unknown.
    bag = cut_slide(workplace / "slides/slide 1.tiff", TileOptions.from_tiling(analyst.card.tiling))
    files = [tmp_path / f"slide 1_{number}.png" for number in range(len(bag.pixels))]
    for path, tile in zip(files, bag.pixels, strict=True):
        Image.fromarray(tile).save(path)
    (tmp_path / "other").mkdir()
    of_tiles = analyst.answer(files, tmp_path / "other")
    np.testing.assert_allclose(of_tiles.probabilities, answer.probabilities, atol=1e-4)
    assert of_tiles.overlay is None
    # Pixels that are read again from the slide are those of the files.
    for name in ("montage", "top_tiles"):
        assert getattr(of_tiles, name) == getattr(answer, name)
    assert "<figure>" in render_answer(answer)


def test_weights_that_are_not_here_are_one_line_at_the_start(workplace, tmp_path):
    network, content = load_network(workplace / "network.pt"), torch.load(workplace / "network.pt", weights_only=True)
    card = {"class_names": ("benign", "malignant"), "tiling": content["milpath"]["tiling"]}
    encoder = content["milpath"]["encoder"]
    unknown = open_encoder("efficientnet_lite0").card.to_dict() | {"layout": "timm", "weights_files": ["model.bin"]}
    for name, description, wanted in (
        (
            "other",
            encoder | {"weights_sha256": "0" * 64},
            "asked for .000000000000. than were .* give encoder_weights_path=FILE",
        ),
        (
            "gone",
            unknown | {"name": "uni9", "repository": "nobody/uni9"},
            "features of uni9: no weights of uni9 on this",
        ),
        ("short", {"name": "uni_v1"}, "its card does not describe"),
    ):
        save_network(network, tmp_path / f"{name}.pt", encoder=description, **card)
        with pytest.raises((ValueError, FileNotFoundError), match=wanted):
            Analyst(tmp_path / f"{name}.pt", LIMITS)


def test_a_slide_that_takes_too_long_to_encode_is_refused(workplace, tmp_path):
    analyst = Analyst(workplace / "network.pt", Limits(max_seconds=1e-6))
    with pytest.raises(ValueError, match="longer than 1e-06 s|no tile for"):
        analyst.answer([workplace / "slides/slide 1.tiff"], tmp_path)
