import numpy as np
import pytest

from milpath.slides import tile_grid as grid_module
from milpath.slides import tile_positions as places_module
from milpath.slides.cut_slide import cut_slide
from milpath.slides.readers import slide as slide_module
from milpath.slides.readers.open_slide import open_slide
from milpath.slides.slide_view import SlideView
from milpath.slides.tile_grid import grid_over
from milpath.slides.tile_selection import cut_darkest, cut_grid, padding_of, tile_sums
from milpath.slides.tiling_options import TileOptions
from tests.pyramids import tissue, write_pyramid

PICTURE = tissue(333, 257, seed=3)


@pytest.fixture
def path(tmp_path):
    return write_pyramid(tmp_path / "a.tiff", PICTURE, factors=(1,))


@pytest.fixture
def in_small_blocks(monkeypatch):
    """Treat every level as too large for the memory."""
    monkeypatch.setattr(slide_module, "WHOLE_LEVEL_PIXELS", 1)
    monkeypatch.setattr(grid_module, "WHOLE_LEVEL_PIXELS", 1)
    for module in (grid_module, places_module):
        monkeypatch.setattr(module, "BLOCK_SIZE", 100)


@pytest.mark.parametrize("tile_size", [16, 33, 100])
@pytest.mark.parametrize("num_tiles", [1, 16, 300])
def test_a_slide_read_in_blocks_gives_the_tiles_of_the_whole_picture(path, in_small_blocks, tile_size, num_tiles):
    bag, whole = (
        cut_slide(path, TileOptions(tile_size=tile_size, num_tiles=num_tiles)),
        cut_darkest(PICTURE, tile_size, num_tiles),
    )
    np.testing.assert_array_equal(bag.pixels, whole.pixels)
    np.testing.assert_array_equal(bag.places.number, whole.number)
    real = whole.number >= 0
    np.testing.assert_array_equal(bag.places.x[real], whole.x[real])
    np.testing.assert_array_equal(bag.places.y[real], whole.y[real])


def test_no_block_is_larger_than_the_bound(path, in_small_blocks, monkeypatch):
    sizes = []
    original = SlideView.read
    monkeypatch.setattr(SlideView, "read", lambda self, *place: sizes.append(place[2:]) or original(self, *place))
    cut_slide(path, TileOptions(tile_size=16, num_tiles=None))
    assert max(max(size) for size in sizes) <= 200


def test_the_grid_has_every_tile_row_by_row(path):
    bag, whole = cut_slide(path, TileOptions(method="grid", tile_size=32)), cut_grid(PICTURE, 32)
    np.testing.assert_array_equal(bag.pixels, whole.pixels)
    np.testing.assert_array_equal(bag.places.x, whole.x)


@pytest.mark.parametrize("size", [(333, 257), (32, 32), (1, 5), (64, 31)])
@pytest.mark.parametrize("overlap", [0, 1, 16, 31])
def test_a_grid_covers_its_picture_with_the_least_white(size, overlap):
    height, width = size
    grid = grid_over(width, height, 32, overlap)
    for first, count, side in ((grid.left, grid.columns, width), (grid.top, grid.rows, height)):
        end = first + (count - 1) * grid.stride + 32
        before, after = -first, end - side
        assert 0 <= before <= after <= before + 1
        assert before + after < max(grid.stride, 32 - side + grid.stride)
    if overlap == 0:
        padding = padding_of(height, width, 32)
        assert (grid.left, grid.top) == (-padding.left, -padding.top)


@pytest.mark.parametrize("overlap", [0, 5, 31])
@pytest.mark.parametrize("tile_size", [32, 300])
def test_sums_are_those_of_the_tiles_without_overflow(overlap, tile_size):
    picture = np.full((tile_size + 64, tile_size + 96, 3), 255, np.uint8)
    picture[40:60, 30:90] = tissue(20, 60)
    stride = tile_size - overlap
    sums = tile_sums(picture, tile_size, stride)
    for row in range(sums.shape[0]):
        for column in range(sums.shape[1]):
            tile = picture[row * stride :, column * stride :][:tile_size, :tile_size]
            assert sums[row, column] == tile.sum(dtype=np.int64)


def test_overlapping_tiles_share_pixels(path):
    bag = cut_slide(path, TileOptions(method="grid", tile_size=32, overlap=8))
    left, right = bag.pixels[0], bag.pixels[1]
    assert bag.places.x[1] - bag.places.x[0] == 24
    np.testing.assert_array_equal(left[:, 24:], right[:, :8])


@pytest.mark.parametrize("value", [255, 245, 3])
@pytest.mark.parametrize("method", ["darkest", "grid", "tissue"])
def test_a_slide_of_one_colour_is_refused(tmp_path, method, value):
    picture = np.full((300, 300, 3), value, np.uint8)
    picture[::7, ::5] += np.uint8(0 if value == 255 else 2)  # noise of a scanner
    path = write_pyramid(tmp_path / "blank.tiff", picture, factors=(2, 1))
    with pytest.raises(ValueError, match=r"blank\.tiff (is blank|shows no tissue)"):
        cut_slide(path, TileOptions(method=method, tile_size=64))


def test_a_slide_smaller_than_a_tile_is_one_tile_on_white(tmp_path):
    path = write_pyramid(tmp_path / "small.tiff", tissue(30, 20), factors=(1,))
    bag = cut_slide(path, TileOptions(tile_size=64, num_tiles=2))
    assert (bag.places.number == [0, -1]).all()
    assert (bag.pixels[1] == 255).all()
    np.testing.assert_array_equal(bag.pixels[0, 17:47, 22:42], tissue(30, 20))
    with open_slide(path) as slide:
        assert slide.level_sizes == ((20, 30),)
