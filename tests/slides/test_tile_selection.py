import hashlib
import json

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from PIL import Image

from milpath.slides.tile_selection import cut_darkest, cut_grid, padding_of

SLIDES = ["0018ae58b01bdadc8e347995b69f99aa", "002a4db09dad406c85505a00fb6f6144"]


@pytest.mark.parametrize("slide", SLIDES)
def test_real_slides_are_cut_exactly_as_published(shared_data, slide):
    folder = shared_data / "panda_pixels"
    golden = json.loads((folder / "golden_tiling.json").read_text())[slide]
    image = np.asarray(Image.open(folder / "level2" / f"{slide}.png").convert("RGB"))
    assert hashlib.sha256(image.tobytes()).hexdigest() == golden["level2_sha256_rgb"]
    assert list(padding_of(*image.shape[:2], 128)) == golden["pad_top_bottom_left_right"]
    assert len(cut_grid(image, 128).number) == golden["n_tiles_total"]
    tiles = cut_darkest(image)
    assert tiles.number.tolist() == golden["selected_index"]
    assert tiles.sums.tolist() == golden["selected_sum"]
    assert [hashlib.sha256(tile.tobytes()).hexdigest() for tile in tiles.pixels] == golden["tile_sha256"]
    for position, tile in enumerate(tiles.pixels):
        published = np.asarray(Image.open(folder / "train" / f"{slide}_{position}.png").convert("RGB"))
        np.testing.assert_array_equal(tile, published)


@given(st.integers(1, 70), st.integers(1, 70), st.integers(1, 32))
def test_every_pixel_lies_in_one_tile_at_its_place(height, width, tile_size):
    image = np.random.default_rng(height * 71 + width).integers(0, 255, (height, width, 3), dtype=np.uint8)
    tiles = cut_grid(image, tile_size)
    seen = np.full((height, width, 3), 255, np.uint8)
    count = np.zeros((height, width), int)
    for pixels, x, y in zip(tiles.pixels, tiles.x, tiles.y, strict=True):
        rows, columns = slice(max(y, 0), min(y + tile_size, height)), slice(max(x, 0), min(x + tile_size, width))
        seen[rows, columns] = pixels[rows.start - y : rows.stop - y, columns.start - x : columns.stop - x]
        count[rows, columns] += 1
    np.testing.assert_array_equal(seen, image)
    assert (count == 1).all()


def test_a_small_image_is_filled_up_with_white_tiles():
    tiles = cut_darkest(np.zeros((10, 10, 3), np.uint8), tile_size=16, num_tiles=4)
    assert tiles.number.tolist() == [0, -1, -1, -1]
    assert (tiles.pixels[1:] == 255).all()
    assert tiles.sums[0] < tiles.sums[1] == 255 * 16 * 16 * 3


def test_equal_tiles_keep_the_order_of_the_grid():
    tiles = cut_darkest(np.full((64, 64, 3), 7, np.uint8), tile_size=16, num_tiles=5)
    assert tiles.number.tolist() == [0, 1, 2, 3, 4]


@pytest.mark.parametrize(
    "image",
    [np.zeros((4, 4), np.uint8), np.zeros((4, 4, 4), np.uint8), np.zeros((4, 4, 3)), np.zeros((0, 4, 3), np.uint8)],
)
def test_what_is_no_rgb_image_is_refused(image):
    with pytest.raises(ValueError, match=r"an image must be uint8 \(height, width, 3\)"):
        cut_grid(image, 4)
