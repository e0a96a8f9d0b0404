import numpy as np
import pytest
from PIL import Image

from milpath.slides.cut_slide import choose_places
from milpath.slides.mask import label_tiles
from milpath.slides.readers.open_slide import open_slide
from milpath.slides.slide_view import view_slide
from milpath.slides.tile_selection import cut_darkest
from milpath.slides.tiling_options import TileOptions
from tests.pyramids import level2, tissue, write_pyramid

SLIDE = "0018ae58b01bdadc8e347995b69f99aa"


def label(slide_path, mask_path, provider="radboud", options=None):
    options = options or TileOptions()
    with open_slide(slide_path) as slide, open_slide(mask_path) as mask:
        view = view_slide(slide, options)
        places = choose_places(view, options)
        return places, label_tiles(mask, view, places, options.tile_size, provider)


def test_the_labels_of_a_slide_are_those_counted_by_hand(panda_folder):
    mask_path = panda_folder / "masks_level2" / f"{SLIDE}_mask.png"
    _, labels = label(panda_folder / "level2" / f"{SLIDE}.png", mask_path)
    mask = np.asarray(Image.open(mask_path).convert("RGB"))[:, :, 0]
    padded = np.pad(mask, ((40, 40), (8, 8)))
    for number, where in enumerate(cut_darkest(level2(panda_folder)).number):
        row, column = divmod(int(where), 3)
        values = padded[row * 128 : row * 128 + 128, column * 128 : column * 128 + 128]
        cancer = np.isin(values, (3, 4, 5)).sum()
        assert labels.tile_label[number] == (cancer > 0)
        assert labels.cancer_fraction[number] == pytest.approx(cancer / (values > 0).sum())
        assert labels.gleason_pattern[number] == (4 if cancer else 0)


@pytest.fixture
def pair(tmp_path):
    """A slide with a mask of three levels, and the mask's last level."""
    values = np.zeros((128, 128), np.uint8)
    values[:64, :64] = 1
    values[:32, :64] = 5
    values[:8, :64] = 3
    values[64:, :64] = 2
    slide = write_pyramid(tmp_path / "a.tiff", tissue(128, 128))
    mask = write_pyramid(tmp_path / "a_mask.tiff", np.dstack([values, 0 * values, 0 * values]), compression="lzw")
    return slide, mask


GRID = TileOptions(method="grid", tile_size=64)


def test_fractions_are_of_tissue_and_the_most_frequent_pattern_counts(pair):
    _, labels = label(*pair, options=GRID)
    assert labels.tile_label.tolist() == [1, 0, 0, 0]
    np.testing.assert_allclose(labels.cancer_fraction, [0.5, np.nan, 0.0, np.nan])
    assert labels.gleason_pattern.tolist() == [5, 0, 0, 0]


def test_a_karolinska_mask_knows_no_patterns(tmp_path, pair):
    values = np.zeros((128, 128), np.uint8)
    values[:64] = 1
    values[:32, :64] = 2
    mask = write_pyramid(tmp_path / "k_mask.tiff", np.dstack([values] * 3))
    _, labels = label(pair[0], mask, "karolinska", GRID)
    assert labels.tile_label.tolist() == [1, 0, 0, 0]
    np.testing.assert_allclose(labels.cancer_fraction, [0.5, 0, np.nan, np.nan])
    assert not labels.gleason_pattern.any()


def test_a_mask_is_read_at_the_level_of_the_slide_even_resampled(pair):
    for options in (
        TileOptions(method="grid", tile_size=128, level=1),
        TileOptions(method="grid", tile_size=85, microns_per_pixel=1.5),
    ):
        _, labels = label(*pair, options=options)
        assert labels.tile_label.tolist() == [1, 0, 0, 0]
        assert labels.cancer_fraction[0] == pytest.approx(0.5, abs=0.02)


def test_white_tiles_that_fill_up_have_no_label(pair):
    places, labels = label(*pair, options=TileOptions(tile_size=64, num_tiles=6))
    assert (places.number[4:] == -1).all()
    assert labels.tile_label[4:].tolist() == [-1, -1]
    assert np.isnan(labels.cancer_fraction[4:]).all()


def test_a_mask_that_does_not_fit_is_refused_by_name(tmp_path, pair):
    other = write_pyramid(tmp_path / "other_mask.tiff", np.zeros((100, 128, 3), np.uint8))
    with pytest.raises(ValueError, match=r"other_mask\.tiff has levels of .* px, but none of 128 x 128 px"):
        label(pair[0], other)
    with pytest.raises(ValueError, match=r"a_mask\.tiff has the value 5; masks of karolinska have 0 to 2"):
        label(*pair, "karolinska")
    with pytest.raises(ValueError, match=r"data_provider of a\.tiff is 'somebody'"):
        label(*pair, "somebody")
    white = write_pyramid(tmp_path / "white_mask.tiff", np.full((128, 128, 3), 255, np.uint8))
    with pytest.raises(ValueError, match=r"white_mask\.tiff has the value 255"):
        label(pair[0], white)
