"""Tissue detection by colour saturation, and placement of tiles where most tissue is."""

import numpy as np
from numpy.typing import NDArray

from milpath.slides.slide_view import SlideView, view_at
from milpath.slides.tile_grid import Grid, grid_over
from milpath.slides.tile_positions import TilePositions

# Side of a tile in pixels of the thumbnail on which tissue is detected; the grid is shifted in steps of one pixel.
STEPS = 8
# Glass and JPEG noise stay below; without a larger value there is no tissue.
_LEAST_SATURATION = 15
# The saturation of darker pixels (borders, missing parts) is meaningless.
_LEAST_BRIGHTNESS = 30
_ROWS_AT_ONCE = 512


def saturation(pixels: NDArray[np.uint8]) -> NDArray[np.uint8]:
    """Return the HSV saturation of each pixel from 0 to 255; 0 for nearly black pixels.

    Example:
        >>> saturation(np.array([[[200, 100, 150], [240, 240, 240], [9, 0, 9]]], np.uint8)).tolist()
        [[127, 0, 0]]
    """
    high, low = pixels.max(axis=2).astype(np.uint16), pixels.min(axis=2).astype(np.uint16)
    value = (high - low) * 255 // np.maximum(high, 1)
    return np.where(high < _LEAST_BRIGHTNESS, 0, value).astype(np.uint8)


def otsu_threshold(values: NDArray[np.uint8]) -> int:
    """Return the threshold that best separates a histogram into two classes; larger values are the upper class.

    The threshold maximises the variance between the classes, w0 w1 (m0 - m1)^2.

    References:
        Otsu. A threshold selection method from gray-level histograms. IEEE Transactions on Systems, Man, and Cybernetics,
        1979, equation 12.

    Example:
        >>> otsu_threshold(np.array([10, 11, 12, 200, 201], np.uint8))
        12
    """
    counts = np.bincount(values.ravel(), minlength=256).astype(np.float64)
    below = np.cumsum(counts)
    above = below[-1] - below
    weighted = np.cumsum(counts * np.arange(256))
    with np.errstate(divide="ignore", invalid="ignore"):
        between = below * above * (weighted / below - (weighted[-1] - weighted) / above) ** 2
    return int(np.argmax(np.nan_to_num(between, nan=-1.0)))


def place_tissue(
    view: SlideView, tile_size: int, overlap: int, num_tiles: int | None, min_tissue: float
) -> TilePositions:
    """Return the tiles with the most tissue, on the grid offset that captures the most.

    Tissue is every pixel with a saturation above Otsu's threshold on a thumbnail of the slide. For each offset of the
    grid (8 x 8 offsets without overlap), tiles with at least `min_tissue` are summed, at most `num_tiles` of them; the
    offset with the largest sum of tissue fractions wins, the first of ties. Tiles are sorted by descending tissue, then
    by descending saturation, then in grid order.

    Args:
        view: The slide.
        tile_size: Side of a tile in pixels of the view.
        overlap: Overlap of neighbouring tiles in pixels.
        num_tiles: Maximum number of tiles; `None` for all with enough tissue.
        min_tissue: Minimum fraction of tissue, in (0, 1].

    Raises:
        ValueError: If no tile has enough tissue.
    """
    step = max(1, tile_size // STEPS)
    colour = _small_saturation(view, step)
    tissue = colour > max(otsu_threshold(colour), _LEAST_SATURATION)
    if not tissue.any():
        raise ValueError(
            f"{view.slide.path.name} shows no tissue: it has no colour anywhere (for grey slides use method=darkest or grid)"
        )
    amount, stain = _summed(tissue), _summed(colour)
    best, best_score = None, 0.0
    for down, right in np.ndindex(*[max(1, (tile_size - overlap) // step)] * 2):
        grid = _shift(grid_over(*view.size, tile_size, overlap), right * step, down * step)
        fraction = _means(amount, grid, step)
        enough = fraction[fraction >= min_tissue]
        score = float(np.sort(enough)[::-1][:num_tiles].sum())
        if score > best_score:
            best, best_score = grid, score
    if best is None:
        raise ValueError(
            f"{view.slide.path.name} has no tile of {tile_size} px with at least {min_tissue:.0%} tissue; "
            "lower min_tissue or tile_size"
        )
    fraction, stained = _means(amount, best, step), _means(stain, best, step)
    kept = np.flatnonzero(fraction >= min_tissue)
    kept = kept[np.lexsort((kept, -stained[kept], -fraction[kept]))][:num_tiles]
    return TilePositions(*best.corners(kept), kept, fraction[kept])


def _small_saturation(view: SlideView, step: int) -> NDArray[np.uint8]:
    """Return the saturation of the slide, one pixel per `step` x `step` pixels of the view."""
    small = view_at(view.slide, view.downsample * step)
    width, height = -(-view.size.width // step), -(-view.size.height // step)
    rows = range(0, height, _ROWS_AT_ONCE)
    return np.concatenate([saturation(small.read(0, top, width, min(_ROWS_AT_ONCE, height - top))) for top in rows])


def _shift(grid: Grid, right: int, down: int) -> Grid:
    """Return the shifted grid, started one tile earlier if the shift leaves a gap."""
    return grid._replace(
        left=grid.left + right - (grid.stride if right else 0),
        top=grid.top + down - (grid.stride if down else 0),
        columns=grid.columns + (1 if right else 0),
        rows=grid.rows + (1 if down else 0),
    )


def _summed(values: NDArray[np.generic]) -> NDArray[np.int64]:
    """Return the summed-area table, whose differences are sums over rectangles."""
    table = np.zeros((values.shape[0] + 1, values.shape[1] + 1), np.int64)
    np.cumsum(np.cumsum(values, axis=0, dtype=np.int64), axis=1, out=table[1:, 1:])
    return table


def _means(table: NDArray[np.int64], grid: Grid, step: int) -> NDArray[np.float64]:
    """Return the mean over each tile, row by row; pixels outside the image count as 0."""
    span = round(grid.tile_size / step)

    def ends(first: int, count: int, limit: int) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
        starts = np.round((first + np.arange(count) * grid.stride) / step).astype(np.int64)
        return np.clip(starts, 0, limit - 1), np.clip(starts + span, 0, limit - 1)

    left, right = ends(grid.left, grid.columns, table.shape[1])
    top, bottom = ends(grid.top, grid.rows, table.shape[0])
    strips = table[bottom] - table[top]
    return np.asarray((strips[:, right] - strips[:, left]).ravel() / span**2)
