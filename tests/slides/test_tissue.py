import numpy as np
import pytest
from skimage.color import rgb2hsv
from skimage.filters import threshold_otsu

from milpath.slides.cut_slide import cut_slide
from milpath.slides.detection.saturation import otsu_threshold, saturation
from milpath.slides.tiling_options import TileOptions
from tests.pyramids import level2, tissue, write_pyramid


def test_saturation_is_that_of_hsv():
    picture = tissue(50, 60)
    np.testing.assert_allclose(saturation(picture), rgb2hsv(picture)[:, :, 1] * 255, atol=1)
    assert not saturation(np.array([[[8, 0, 8]]], np.uint8)).any()


@pytest.mark.parametrize("seed", range(5))
def test_the_threshold_is_the_one_of_scikit_image(seed):
    rng = np.random.default_rng(seed)
    values = np.concatenate([rng.normal(30, 12, 5000), rng.normal(150, 30, 800)]).clip(0, 255).astype(np.uint8)
    assert otsu_threshold(values) == threshold_otsu(values)


def test_every_chosen_tile_of_a_slide_has_tissue(scan):
    bag = cut_slide(scan, TileOptions(method="tissue", num_tiles=None, min_tissue=0.5))
    fraction = bag.places.tissue
    assert len(bag.pixels) > 100
    assert fraction.min() >= 0.5
    assert (np.diff(fraction) <= 0).all()
    # The same tiles, looked at in full resolution.
    colourful = np.array([(saturation(tile) > 15).mean() for tile in bag.pixels])
    assert colourful.min() > 0.3
    if min(fraction.std(), colourful.std()) > 0:  # drawn tissue fills its tiles
        assert np.corrcoef(colourful, fraction)[0, 1] > 0.5


def test_bags_are_as_long_as_there_is_tissue_and_no_longer_than_asked(panda_folder, tmp_path):
    path = write_pyramid(tmp_path / "a.tiff", level2(panda_folder), factors=(1,), tile=512)
    lengths = [len(cut_slide(path, TileOptions(method="tissue", num_tiles=num)).pixels) for num in (5, 9, 1000, None)]
    assert lengths[:2] == [5, 9]
    assert 9 < lengths[2] == lengths[3] < 39


def test_the_grid_is_moved_to_where_it_catches_most(tmp_path):
    picture = np.full((256, 256, 3), 255, np.uint8)
    picture[96:160, 96:160] = tissue_colour = (200, 100, 160)
    path = write_pyramid(tmp_path / "a.tiff", picture, factors=(1,))
    bag = cut_slide(path, TileOptions(method="tissue", tile_size=64, num_tiles=1))
    assert (bag.places.x[0], bag.places.y[0]) == (96, 96)
    assert bag.places.tissue[0] == 1.0
    assert (bag.pixels[0] == tissue_colour).all()


def test_tissue_at_the_edges_is_found_with_white_around_it(tmp_path):
    picture = np.full((232, 232, 3), 255, np.uint8)
    picture[:40, :40] = picture[-40:, -40:] = (200, 100, 160)
    path = write_pyramid(tmp_path / "a.tiff", picture, factors=(1,))
    bag = cut_slide(path, TileOptions(method="tissue", tile_size=64, num_tiles=None, min_tissue=0.3))
    assert len(bag.pixels) == 2
    caught = sum(int((tile == (200, 100, 160)).all(axis=-1).sum()) for tile in bag.pixels)
    assert caught == 2 * 40 * 40


def test_too_little_tissue_is_said_with_the_options_to_change(tmp_path):
    picture = np.full((512, 512, 3), 255, np.uint8)
    picture[100:110, 100:110] = (200, 60, 160)
    path = write_pyramid(tmp_path / "speck.tiff", picture, factors=(1,))
    with pytest.raises(
        ValueError, match=r"speck\.tiff has no tile of 128 px with at least 50% tissue; lower min_tissue or tile_size"
    ):
        cut_slide(path, TileOptions(method="tissue", min_tissue=0.5))


def test_tissue_is_found_at_a_resolution_between_levels(tmp_path):
    path = write_pyramid(tmp_path / "a.tiff", tissue(400, 300, seed=2))
    bag = cut_slide(path, TileOptions(method="tissue", tile_size=32, num_tiles=8, microns_per_pixel=1.3))
    assert (bag.level, len(bag.pixels)) == (1, 8)
    assert bag.downsample == pytest.approx(2.6)
    assert np.median([(saturation(tile) > 15).mean() for tile in bag.pixels]) > 0.9
