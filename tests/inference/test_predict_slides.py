"""Slides from Python: the numbers of the command, as arrays."""

from pathlib import Path

import numpy as np
import pandas as pd
import pytest
import torch
from PIL import Image

import milpath
from milpath.models import AttentionMIL, load_card, load_network, save_network
from tests.pyramids import tissue, write_pyramid


@pytest.fixture(scope="module")
def folder(tmp_path_factory) -> Path:
    """Two slides, one picture, and a network of tiles with a threshold and a temperature."""
    folder = tmp_path_factory.mktemp("slides")
    (folder / "slides").mkdir()
    for number in range(2):
        write_pyramid(folder / f"slides/s{number}.tiff", tissue(160, 128, seed=number), factors=(2, 1))
    Image.fromarray(tissue(100, 90, seed=5)).save(folder / "slides/picture.png")
    torch.manual_seed(0)
    network = AttentionMIL(encoder={"name": "tile_cnn", "tile_size": 32, "embedding_dim": 8}).eval()
    tiling = {"method": "grid", "tile_size": 32, "level": 0}
    save_network(
        network, folder / "best.ckpt", class_names=("benign", "malignant"), tiling=tiling,
        target_state={}, threshold=0.4, temperature=2.0, defer_below=0.6,
    )  # fmt: skip
    return folder


def test_arrays_have_the_numbers_of_the_command(folder, run_here, tmp_path):
    slides = list(milpath.predict_slides(folder / "best.ckpt", folder / "slides", num_workers=1, device="cpu"))
    words = [f"checkpoint={folder}/best.ckpt", f"slides={folder}/slides", "output=p", "pictures=false", "num_workers=1"]
    status, message = run_here("milpath.predict", *words, "device=cpu", cwd=tmp_path)
    assert status == 0, message
    table = pd.read_csv(tmp_path / "p/predictions.csv", dtype={"id": str}).set_index("id")
    tiles = pd.read_csv(tmp_path / "p/attention.csv", dtype={"id": str}).groupby("id")
    assert [slide.slide_id for slide in slides] == ["picture", "s0", "s1"] == sorted(table.index)
    for slide in slides:
        row, of_slide = table.loc[slide.slide_id], tiles.get_group(slide.slide_id)
        assert slide.columns == ("benign", "malignant")
        np.testing.assert_allclose(
            slide.probabilities, row[["probability_benign", "probability_malignant"]].astype(float), atol=1e-6
        )
        assert (slide.predicted, slide.refer) == (row["predicted"], bool(row["defer"]))
        np.testing.assert_allclose(slide.attention, of_slide["weight"], atol=1e-6)
        np.testing.assert_array_equal(slide.x0, of_slide["x0"])
        np.testing.assert_array_equal(slide.y0, of_slide["y0"])
        assert (of_slide["size0"] == slide.size0).all()
        assert slide.path.parent == folder / "slides"
        thumbnail, scale = milpath.read_thumbnail(slide.path, 64)
        assert max(thumbnail.shape[:2]) == 64
        assert scale < 1
        picture = milpath.draw_overlay(thumbnail, slide.attention, slide.x0, slide.y0, slide.size0, scale)
        assert min(picture.size) > 40


def test_a_network_with_its_card_and_single_files_give_the_same(folder):
    card = load_card(folder / "best.ckpt")
    files = [folder / "slides/s1.tiff", folder / "slides/picture.png"]
    found = list(milpath.predict_slides(load_network(folder / "best.ckpt"), files, card, num_workers=1, device="cpu"))
    expected = {
        slide.slide_id: slide for slide in milpath.predict_slides(folder / "best.ckpt", folder / "slides", device="cpu")
    }
    assert [slide.slide_id for slide in found] == ["s1", "picture"]
    for slide in found:
        np.testing.assert_allclose(slide.probabilities, expected[slide.slide_id].probabilities, atol=1e-6)
    with pytest.raises(ValueError, match=r"a network needs its card: predict_slides\(network, slides, card="):
        next(milpath.predict_slides(load_network(folder / "best.ckpt"), files))
    with pytest.raises(FileNotFoundError, match=r"slides=.*nowhere does not exist"):
        next(milpath.predict_slides(folder / "best.ckpt", folder / "nowhere"))


def test_a_slide_that_cannot_be_read_is_an_error_after_the_others_unless_somebody_hears_of_it(folder, tmp_path):
    (tmp_path / "broken.png").write_bytes(b"not a picture")
    (tmp_path / "s0.tiff").symlink_to(folder / "slides/s0.tiff")
    failed: dict[str, str] = {}
    heard = list(
        milpath.predict_slides(
            folder / "best.ckpt", tmp_path, num_workers=1, device="cpu", on_failure=failed.__setitem__
        )
    )
    assert [slide.slide_id for slide in heard] == ["s0"]
    assert list(failed) == ["broken"]
    seen = []
    with pytest.raises(ValueError, match=r"1 slide failed \(first: 'broken': .*on_failure="):
        seen.extend(milpath.predict_slides(folder / "best.ckpt", tmp_path, num_workers=1, device="cpu"))
