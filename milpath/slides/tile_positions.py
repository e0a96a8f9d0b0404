"""Positions of the selected tiles, and reading their pixels without reading the whole slide."""

from collections.abc import Iterator
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from milpath.slides.detection.tile_cover import tile_fractions
from milpath.slides.detection.tissue_map import TissueMap
from milpath.slides.readers.rgb import WHITE
from milpath.slides.slide_view import SlideView
from milpath.slides.tile_grid import BLOCK_SIZE, Block, Grid, inside_fraction, read_blocks
from milpath.slides.tile_selection import Padding, tile_sums

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


def place_all(view: SlideView, grid: Grid, min_inside: float = 0.0) -> TilePositions:
    """Return every tile of a grid of which enough lies on the slide, row by row.

    Args:
        view: The slide.
        grid: The candidate tiles.
        min_inside: Minimum fraction of a tile that lies on the slide.

    Raises:
        ValueError: If no tile has it.
    """
    number = np.flatnonzero(_enough_inside(view, grid, min_inside))
    return TilePositions(*grid.corners(number), number)


def place_darkest(
    view: SlideView,
    grid: Grid,
    num_tiles: int | None,
    min_inside: float = 0.0,
    tissue: TissueMap | None = None,
    min_tissue: float = 0.0,
) -> TilePositions:
    """Return the tiles with the lowest pixel sum, ascending, ties in grid order; see `tile_selection.cut_darkest`.

    Args:
        view: The slide.
        grid: The candidate tiles.
        num_tiles: Tiles of the bag, filled up with white ones; `None` for all tiles of the grid.
        min_inside: Tiles of which less lies on the slide are no candidates.
        tissue: Map of the slide: everything but tissue counts as white; `None` counts all pixels as they are.
        min_tissue: With a map, tiles with less tissue are no candidates.

    Raises:
        ValueError: If there is no candidate.
    """
    sums = _sums_of(view, grid, tissue)
    candidates = _enough_inside(view, grid, min_inside)
    fraction = None
    if tissue is not None:
        corners = grid.corners(np.arange(grid.num_tiles))
        fraction = tile_fractions(tissue.tissue, *corners, grid.tile_size, tissue.step)
        candidates &= fraction >= min_tissue
        if not candidates.any():
            raise ValueError(
                f"{view.slide.path.name} has no tile of {grid.tile_size} px with at least {min_tissue:.0%} tissue; "
                "lower min_tissue or tile_size"
            )
    number = np.argsort(np.where(candidates, sums.ravel(), np.iinfo(np.int64).max), kind="stable")
    number = number[: int(candidates.sum())][:num_tiles]
    x, y = grid.corners(number)
    missing = max(0, (num_tiles or 0) - len(number))
    filler = np.zeros(missing, np.int64)
    return TilePositions(np.append(x, filler), np.append(y, filler), np.append(number, filler - 1))


def _sums_of(view: SlideView, grid: Grid, tissue: TissueMap | None) -> NDArray[np.int64]:
    """Return the pixel sum of each tile, `(rows, columns)`; with a map everything but tissue counts as white."""
    whole = view.whole() if tissue is None else None
    if whole is not None:
        right, bottom = (
            first + (count - 1) * grid.stride + grid.tile_size - side
            for first, count, side in zip((grid.left, grid.top), (grid.columns, grid.rows), view.size, strict=True)
        )
        return tile_sums(whole, grid.tile_size, grid.stride, Padding(-grid.top, bottom, -grid.left, right))
    sums = np.empty((grid.rows, grid.columns), np.int64)
    for block in read_blocks(view, grid):
        pixels = block.pixels if tissue is None else _only_tissue(block, grid, tissue)
        sums[block.rows, block.columns] = tile_sums(pixels, grid.tile_size, grid.stride)
    return sums


def _enough_inside(view: SlideView, grid: Grid, min_inside: float) -> NDArray[np.bool_]:
    """Return which tiles of a grid lie on the slide by enough of their area, `(tiles,)`."""
    enough = inside_fraction(*grid.corners(np.arange(grid.num_tiles)), grid.tile_size, view.size) >= min_inside
    if not enough.any():
        raise ValueError(
            f"{view.slide.path.name} has no tile of {grid.tile_size} px of which {min_inside:.0%} lies on the slide "
            f"({view.size.width} x {view.size.height} px); lower min_inside or tile_size"
        )
    return np.asarray(enough)


def _only_tissue(block: Block, grid: Grid, tissue: TissueMap) -> NDArray[np.uint8]:
    """Return the pixels of a block with white instead of everything that is not tissue."""
    index = []
    for first, part, length, step, limit in (
        (grid.top, block.rows, block.pixels.shape[0], tissue.step[1], tissue.tissue.shape[0]),
        (grid.left, block.columns, block.pixels.shape[1], tissue.step[0], tissue.tissue.shape[1]),
    ):
        position = first + part.start * grid.stride + np.arange(length)
        index.append(np.clip(position // step, 0, limit - 1).astype(np.int64))
    return np.where(tissue.tissue[np.ix_(*index)][:, :, None], block.pixels, np.uint8(WHITE))


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
