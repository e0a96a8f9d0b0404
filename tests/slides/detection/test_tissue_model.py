import os

import numpy as np
import pandas as pd
import pytest
from PIL import Image

from milpath.slides.cut_slide import cut_slide
from milpath.slides.detection.stain_vectors import StainRange
from milpath.slides.detection.tissue_map import map_tissue
from milpath.slides.detection.tissue_model import KNOWN_MODELS, TissueModel
from milpath.slides.readers.open_slide import open_slide
from milpath.slides.slide_view import view_slide
from milpath.slides.tiling_options import TileOptions
from milpath.slides.tissue import find_tissue
from tests.pyramids import write_pyramid
from tests.tissue_situations import draw_situation

onnx = pytest.importorskip("onnx")
pytest.importorskip("onnxruntime")
SPEC = {"microns_per_pixel": "1.0", "tissue_channels": "1", "window": "64", "activation": "sigmoid"}


def write_model(path, metadata=SPEC, channels=2):
    """Write a network whose channel 1 is positive where red exceeds green by more than a tenth, and channel 0 elsewhere."""
    weights = np.zeros((channels, 3, 1, 1), np.float32)
    weights[1] = np.array([100.0, -100.0, 0.0]).reshape(3, 1, 1)
    weights[0] = -weights[1]
    bias = np.zeros(channels, np.float32)
    bias[:2] = 10, -10
    helper = onnx.helper
    graph = helper.make_graph(
        [helper.make_node("Conv", ["input", "weights", "bias"], ["logits"])],
        "red",
        [helper.make_tensor_value_info("input", onnx.TensorProto.FLOAT, [1, 3, "height", "width"])],
        [helper.make_tensor_value_info("logits", onnx.TensorProto.FLOAT, [1, channels, "height", "width"])],
        [onnx.numpy_helper.from_array(weights, "weights"), onnx.numpy_helper.from_array(bias, "bias")],
    )
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 18)], ir_version=9)
    helper.set_model_props(model, dict(metadata))
    onnx.save(model, path)
    return path


@pytest.fixture
def model_path(tmp_path):
    return write_model(tmp_path / "red model, [1].onnx")


@pytest.fixture
def slide_path(tmp_path):
    """Half of the tissue is pink, half is blue; the network knows only pink."""
    picture = np.full((160, 240, 3), 243, np.uint8)
    picture[32:128, 24:104] = (225, 140, 190)
    picture[32:128, 136:216] = (120, 130, 200)
    return write_pyramid(tmp_path / "a.tiff", picture, factors=(2, 1))  # 0.5 and 1 micron per pixel


def test_tissue_is_what_the_network_says(slide_path, model_path):
    options = TileOptions("tissue", None, 16, microns_per_pixel=1.0, tissue_model=str(model_path))
    with open_slide(slide_path) as slide:
        view = view_slide(slide, options)
        by_colour = find_tissue(view, TileOptions("tissue", None, 16, microns_per_pixel=1.0))
        found = find_tissue(view, options)
    assert found.step == by_colour.step == (2, 2)
    assert by_colour.tissue[16:64, 68:108].all()
    truth = np.zeros(found.tissue.shape, bool)
    truth[16:64, 12:52] = True
    assert (found.tissue != truth).mean() < 0.01
    bag = cut_slide(slide_path, options)
    assert bag.places.tissue.sum() == pytest.approx(80 * 96 / 16**2, abs=1)
    assert bag.places.x.max() < 104


def test_a_window_of_the_network_need_not_fit_the_map(slide_path, tmp_path):
    model = write_model(tmp_path / "odd.onnx", SPEC | {"window": "37"})
    with open_slide(slide_path) as slide:
        options = TileOptions("tissue", None, 24, microns_per_pixel=1.5, tissue_model=str(model))
        view = view_slide(slide, options)
        found = find_tissue(view, options)
    share = found.tissue.sum() * (3 * 1.5) ** 2 / (96 * 80)
    assert share == pytest.approx(1, abs=0.08)


@pytest.mark.parametrize(
    ("metadata", "message"),
    [
        ({}, "its metadata lack microns_per_pixel and tissue_channels; write microns_per_pixel"),
        (SPEC | {"microns_per_pixel": "fine"}, "could not convert string to float"),
        (SPEC | {"input": "hsv"}, "input=hsv is unknown; it must be one of rgb, stains"),
        (SPEC | {"window": "99999"}, "window=99999 must be from 32 to 8192 px"),
    ],
)
def test_metadata_that_say_too_little_are_refused(tmp_path, metadata, message):
    with pytest.raises(ValueError, match=message):
        TissueModel(write_model(tmp_path / "a.onnx", metadata))


def test_a_file_that_is_missing_or_damaged_or_returns_something_else_is_refused(tmp_path):
    with pytest.raises(FileNotFoundError, match=r"tissue_model=.*no\.onnx does not exist; give an ONNX file"):
        TissueModel(tmp_path / "no.onnx")
    (tmp_path / "bad.onnx").write_bytes(b"not a network")
    with pytest.raises(ValueError, match=r"tissue_model=.*bad\.onnx is not an ONNX network that can be run"):
        TissueModel(tmp_path / "bad.onnx")
    model = TissueModel(write_model(tmp_path / "few.onnx", SPEC | {"tissue_channels": "1,5"}))
    with pytest.raises(ValueError, match="channels up to 5"):
        model.probability(np.zeros((64, 64, 3), np.uint8))


def test_a_slide_without_or_with_too_low_a_resolution_is_refused_with_the_way_out(tmp_path, model_path):
    picture, _ = draw_situation("H&E")
    Image.fromarray(picture).save(tmp_path / "plain.png")
    options = {"method": "tissue", "tile_size": 32, "level": 0, "tissue_model": str(model_path)}
    with pytest.raises(ValueError, match=r"plain\.png, which it does not state; set slide_microns_per_pixel=NUMBER"):
        cut_slide(tmp_path / "plain.png", TileOptions(**options))
    with pytest.raises(
        ValueError, match=r"has 4 microns per pixel, but tissue_model=.* needs 1; leave tissue_model out"
    ):
        cut_slide(tmp_path / "plain.png", TileOptions(**options, slide_microns_per_pixel=4.0))


def test_the_published_network_marks_the_epithelium_of_real_prostate(shared_data):
    """The file `shell/weights/model_v1.onnx` of the package lavlab-shell 0.9.1, with the file of weights beside it."""
    path = os.environ.get("MILPATH_TISSUE_MODEL")
    if path is None:
        pytest.skip("MILPATH_TISSUE_MODEL does not name shell/weights/model_v1.onnx of the package lavlab-shell 0.9.1")
    model = TissueModel(path)
    assert model.spec in KNOWN_MODELS.values()
    folder = shared_data / "panda_gleason_patches"
    table = pd.read_csv(folder / "labels.csv").query("augmented == 0")
    shares = {}
    for label in range(4):  # stroma or benign, Gleason 3, 4 and 5, which is a sheet of epithelium
        tiles = [
            np.asarray(Image.open(folder / name).convert("RGB")) for name in table[table["label"] == label]["image"][:4]
        ]
        picture = np.concatenate([np.concatenate(tiles[:2], axis=1), np.concatenate(tiles[2:], axis=1)])
        stains = StainRange.of(picture, map_tissue(picture).tissue)
        shares[label] = float((model.probability(picture, stains) > 0.5).mean())
    assert shares[0] < 0.25
    assert shares[3] > 2 * shares[0]
