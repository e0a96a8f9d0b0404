"""Deep Zoom pyramids: their levels, their bounds and their pixels."""

import io
import math

import numpy as np
import pytest
from PIL import Image

from milpath.inference.slide_page.image_pyramid import (
    TILE_SIZE,
    array_source,
    level_range,
    pyramid_tiles,
    slide_source,
)
from milpath.slides.readers.open_slide import open_slide
from tests.pyramids import tissue, write_pyramid


def _assemble(tiles, level, width, height):
    """Put the tiles of a level together without their overlap."""
    canvas = np.zeros((height, width, 3), np.uint8)
    for tile in tiles:
        if tile.level != level:
            continue
        pixels = np.asarray(Image.open(io.BytesIO(tile.jpeg)))
        left, top = tile.column * TILE_SIZE, tile.row * TILE_SIZE
        skip_x, skip_y = int(tile.column > 0), int(tile.row > 0)
        part = pixels[skip_y : skip_y + TILE_SIZE, skip_x : skip_x + TILE_SIZE]
        canvas[top : top + TILE_SIZE, left : left + TILE_SIZE] = part
    return canvas


@pytest.mark.parametrize(("width", "height"), [(1100, 523), (TILE_SIZE, TILE_SIZE), (1, 1), (1025, 257)])
def test_every_level_is_the_image_at_its_scale(width, height):
    across, down = np.meshgrid(np.linspace(0, 255, width), np.linspace(0, 255, height))
    image = np.stack([across, down, np.full_like(across, 90)], axis=2).astype(np.uint8)
    tiles = list(pyramid_tiles(array_source(image, 1.0)))
    smallest, largest = level_range(width, height)
    assert {tile.level for tile in tiles} == set(range(smallest, largest + 1))
    for level in range(smallest, largest + 1):
        size = [math.ceil(side / 2 ** (largest - level)) for side in (width, height)]
        assert sum(tile.level == level for tile in tiles) == math.prod(math.ceil(side / TILE_SIZE) for side in size)
        expected = np.asarray(Image.fromarray(image).resize(size, Image.Resampling.BOX)).astype(int)
        assert np.abs(_assemble(tiles, level, *size).astype(int) - expected).mean() < 3
    assert sum(tile.level == smallest for tile in tiles) == 1


def test_a_slide_is_bounded_and_its_places_stay_where_they_are(tmp_path):
    path = write_pyramid(tmp_path / "slide.tiff", tissue(300, 400, seed=1), factors=(1, 4))
    with open_slide(path) as slide:
        full = slide_source(slide, 10**9)
        size = slide.level_sizes[0]
        assert (full.width, full.height, full.downsample) == (*size, 1.0)
        small = slide_source(slide, 20_000)
        assert 15_000 < small.width * small.height <= 20_000
        assert small.width * small.downsample == pytest.approx(size.width, rel=0.02)
        whole = full.read(0, 0, full.width, full.height)
        shown = small.read(0, 0, small.width, small.height)
    expected = np.asarray(Image.fromarray(whole).resize((small.width, small.height), Image.Resampling.BOX))
    assert np.abs(shown.astype(int) - expected).mean() < 12
