"""Positions of the selected tiles, and reading their pixels without reading the whole slide."""

from collections.abc import Iterator
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from milpath.slides.readers.rgb import WHITE
from milpath.slides.slide_view import SlideView
from milpath.slides.tile_grid import BLOCK_SIZE, Grid, read_blocks
from milpath.slides.tile_selection import tile_sums

# Columns of `tiles.csv`: the corner and the side of a tile in pixels of level 0.
LEVEL0_COLUMNS = ("x0", "y0", "size0")
# The corner of the scanned area, to which QuPath crops a slide; columns of `bags.csv`.
BOUNDS_COLUMNS = ("bounds_x0", "bounds_y0")
_TILES_AT_A_TIME = 64


class TilePositions(NamedTuple):
    """Positions of the tiles of a view, in the order of their bag.

    Attributes:
        x: Left edge in pixels of the view, int64 `(tiles,)`; 0 for a white filler tile.
        y: Top edge likewise.
        number: Row-major number in the grid, -1 for a white filler tile.
        tissue: Fraction of tissue in [0, 1], if the rule uses it.
    """

    x: NDArray[np.int64]
    y: NDArray[np.int64]
    number: NDArray[np.int64]
    tissue: NDArray[np.float64] | None = None


def place_all(grid: Grid) -> TilePositions:
    """Return every tile of a grid, row by row."""
    number = np.arange(grid.num_tiles, dtype=np.int64)
    return TilePositions(*grid.corners(number), number)


def place_darkest(view: SlideView, grid: Grid, num_tiles: int | None) -> TilePositions:
    """Return the tiles with the lowest pixel sum, ascending, ties in grid order; see `tile_selection.cut_darkest`.

    Args:
        view: The slide.
        grid: The candidate tiles.
        num_tiles: Tiles of the bag, filled up with white ones; `None` for all tiles of the grid.
    """
    sums = np.empty((grid.rows, grid.columns), np.int64)
    for block in read_blocks(view, grid):
        sums[block.rows, block.columns] = tile_sums(block.pixels, grid.tile_size, grid.stride)
    number = np.argsort(sums, axis=None, kind="stable")[:num_tiles]
    x, y = grid.corners(number)
    missing = max(0, (num_tiles or 0) - len(number))
    filler = np.zeros(missing, np.int64)
    return TilePositions(np.append(x, filler), np.append(y, filler), np.append(number, filler - 1))


def read_places(
    view: SlideView, places: TilePositions, tile_size: int
) -> Iterator[tuple[NDArray[np.int64], NDArray[np.uint8]]]:
    """Yield the tiles in chunks that fit into memory: their indices in the bag and their pixels.

    Neighbouring tiles are read together, so that a chunk of the file is not decoded once per tile.

    Args:
        view: The slide.
        places: Positions of the tiles.
        tile_size: Their side in pixels.
    """
    white = np.flatnonzero(places.number < 0)
    if len(white):
        yield white, np.full((len(white), tile_size, tile_size, 3), WHITE, np.uint8)
    real = np.flatnonzero(places.number >= 0)
    block = np.stack([places.y[real] // BLOCK_SIZE, places.x[real] // BLOCK_SIZE])
    order = np.lexsort(block[::-1])
    changes = np.flatnonzero(np.diff(block[:, order], axis=1).any(axis=0)) + 1
    for group in np.split(real[order], changes):
        if len(group):
            x, y = places.x[group], places.y[group]
            left, top = int(x.min()), int(y.min())
            region = view.read(left, top, int(x.max()) - left + tile_size, int(y.max()) - top + tile_size)
            # Overlapping tiles of one region may have many times its pixels.
            for start in range(0, len(group), _TILES_AT_A_TIME):
                part = slice(start, start + _TILES_AT_A_TIME)
                corners = zip(x[part] - left, y[part] - top, strict=True)
                yield group[part], np.stack([region[b : b + tile_size, a : a + tile_size] for a, b in corners])
