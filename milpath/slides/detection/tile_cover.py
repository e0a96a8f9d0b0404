"""Areas of tiles on a map of the slide, exact also where a tile covers parts of pixels."""

import numpy as np
from numpy.typing import NDArray


def tile_fractions(
    mask: NDArray[np.bool_], x: NDArray[np.int64], y: NDArray[np.int64], tile_size: int, step: tuple[float, float]
) -> NDArray[np.float64]:
    """Return the fraction of each tile in which a mask is set, `(tiles,)` in [0, 1]; outside the mask nothing is set.

    Args:
        mask: `(height, width)`.
        x: Left edges of the tiles in pixels of the view, `(tiles,)`.
        y: Top edges likewise.
        tile_size: Side of a tile in pixels of the view.
        step: Pixels of the view per pixel of the mask, across and down.
    """
    if not mask.any():  # ink and black, of most slides
        return np.zeros(len(x))
    table = summed_area(mask)
    left, right = x / step[0], (x + tile_size) / step[0]
    top, bottom = y / step[1], (y + tile_size) / step[1]
    inside = (
        _read(table, bottom, right) - _read(table, top, right) - _read(table, bottom, left) + _read(table, top, left)
    )
    return np.asarray((inside * step[0] * step[1] / tile_size**2).clip(0, 1))


def covered(
    shape: tuple[int, int], x: NDArray[np.int64], y: NDArray[np.int64], tile_size: int, step: tuple[float, float]
) -> NDArray[np.float64]:
    """Return how much of each pixel of a map lies in tiles, `shape` in [0, 1]; where tiles overlap it counts once.

    Args:
        shape: Height and width of the map.
        x: Left edges of the tiles in pixels of the view, `(tiles,)`.
        y: Top edges likewise.
        tile_size: Side of a tile in pixels of the view.
        step: Pixels of the view per pixel of the map, across and down.
    """
    height, width = shape
    # The corners of a box, whose sums along both axes are the box; a corner inside a pixel is shared with the next ones.
    corners = np.zeros((height + 2, width + 2))
    for down, down_sign in ((y, 1), (y + tile_size, -1)):
        for across, across_sign in ((x, 1), (x + tile_size, -1)):
            row, low = _split(down / step[1], height)
            column, near = _split(across / step[0], width)
            for row_part, row_share in ((0, 1 - low), (1, low)):
                for column_part, column_share in ((0, 1 - near), (1, near)):
                    share = down_sign * across_sign * row_share * column_share
                    np.add.at(corners, (row + row_part, column + column_part), share)
    # In place: these maps are the largest that are made of a slide.
    np.cumsum(corners, axis=0, out=corners)
    np.cumsum(corners, axis=1, out=corners)
    inside = corners[:height, :width]
    return inside.clip(0, 1, out=inside)


def summed_area(values: NDArray[np.generic]) -> NDArray[np.uint32]:
    """Return the summed-area table of non-negative integers, `(height + 1, width + 1)`.

    Differences of its entries are sums over rectangles. They are right also where the sum over the whole map is larger than
    2^32 and wraps around, as long as their own sum is not.

    Args:
        values: `(height, width)`.

    Example:
        >>> summed_area(np.array([[1, 2], [3, 4]])).tolist()
        [[0, 0, 0], [0, 1, 3], [0, 4, 10]]
    """
    table = np.zeros((values.shape[0] + 1, values.shape[1] + 1), np.uint32)
    inner = table[1:, 1:]
    np.cumsum(values, axis=0, dtype=np.uint32, out=inner)
    np.cumsum(inner, axis=1, out=inner)
    return table


def _split(position: NDArray[np.float64], limit: int) -> tuple[NDArray[np.int64], NDArray[np.float64]]:
    """Return the pixel that holds each position and how far into it the position lies, within the map."""
    position = np.clip(position, 0, limit)
    pixel = np.floor(position).astype(np.int64)
    return pixel, position - pixel


def _read(table: NDArray[np.uint32], row: NDArray[np.float64], column: NDArray[np.float64]) -> NDArray[np.float64]:
    """Return a summed-area table between its entries, which is linear in each direction."""
    height, width = table.shape
    top, low = _split(row, height - 1)
    left, near = _split(column, width - 1)
    below, beside = np.minimum(top + 1, height - 1), np.minimum(left + 1, width - 1)
    upper = table[top, left] * (1 - near) + table[top, beside] * near
    lower = table[below, left] * (1 - near) + table[below, beside] * near
    return np.asarray(upper * (1 - low) + lower * low)
