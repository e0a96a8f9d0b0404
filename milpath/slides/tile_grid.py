"""Grid of tiles over a white-padded image, and the blocks in which a large one is read."""

from collections.abc import Iterator
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from milpath.slides.readers.slide import WHOLE_LEVEL_PIXELS, Size
from milpath.slides.slide_view import SlideView

# Large views are read in squares of this side (12 MB): this bounds the memory of a worker for any slide.
BLOCK_SIZE = 2048


class Grid(NamedTuple):
    """A regular grid of tiles, adjacent or overlapping.

    Attributes:
        left: Left edge of the first tile; negative if padding precedes the image.
        top: Top edge of the first tile.
        rows: Number of rows of tiles.
        columns: Number of columns of tiles.
        tile_size: Side of a tile in pixels.
        stride: Pixels from one tile to the next.
    """

    left: int
    top: int
    rows: int
    columns: int
    tile_size: int
    stride: int

    def corners(self, number: NDArray[np.int64]) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
        """Return the left and top edges of tiles, given by their row-major numbers."""
        row, column = np.divmod(number, self.columns)
        return self.left + column * self.stride, self.top + row * self.stride

    @property
    def num_tiles(self) -> int:
        """Number of tiles in the grid."""
        return self.rows * self.columns


def grid_over(width: int, height: int, tile_size: int, overlap: int = 0) -> Grid:
    """Return the grid that covers an image: white padding is added half before and half after, an odd pixel after.

    Example:
        >>> grid_over(368, 1584, 128)
        Grid(left=-8, top=-40, rows=13, columns=3, tile_size=128, stride=128)
    """
    stride = tile_size - overlap
    columns, rows = (1 + max(0, -(-(side - tile_size) // stride)) for side in (width, height))
    left, top = (
        -(((count - 1) * stride + tile_size - side) // 2) for count, side in ((columns, width), (rows, height))
    )
    return Grid(left, top, rows, columns, tile_size, stride)


def inside_fraction(x: NDArray[np.int64], y: NDArray[np.int64], tile_size: int, size: Size) -> NDArray[np.float64]:
    """Return the fraction of each tile that lies on the slide, `(tiles,)` in [0, 1]; the rest is white.

    Args:
        x: Left edges in pixels of the view.
        y: Top edges likewise.
        tile_size: Side of a tile.
        size: Size of the view.

    Example:
        >>> inside_fraction(np.array([-32, 0]), np.array([0, 0]), 64, Size(64, 64)).tolist()
        [0.5, 1.0]
    """
    width, height = (
        np.clip(corner + tile_size, 0, limit) - np.clip(corner, 0, limit)
        for corner, limit in zip((x, y), size, strict=True)
    )
    return np.asarray(width * height / tile_size**2)


class Block(NamedTuple):
    """Part of a grid and its pixels."""

    rows: slice
    columns: slice
    pixels: NDArray[np.uint8]


def read_blocks(view: SlideView, grid: Grid) -> Iterator[Block]:
    """Yield the whole grid in blocks that fit into memory, row by row; a small image is one block."""
    side = BLOCK_SIZE if view.size.width * view.size.height > WHOLE_LEVEL_PIXELS else WHOLE_LEVEL_PIXELS
    step = max(1, (side - grid.tile_size) // grid.stride + 1)
    for row in range(0, grid.rows, step):
        for column in range(0, grid.columns, step):
            rows, columns = slice(row, min(row + step, grid.rows)), slice(column, min(column + step, grid.columns))
            yield Block(rows, columns, _read(view, grid, rows, columns))


def _read(view: SlideView, grid: Grid, rows: slice, columns: slice) -> NDArray[np.uint8]:
    width, height = ((part.stop - part.start - 1) * grid.stride + grid.tile_size for part in (columns, rows))
    return view.read(grid.left + columns.start * grid.stride, grid.top + rows.start * grid.stride, width, height)
