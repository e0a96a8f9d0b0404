"""Map of the tissue of a slide, and placement of tiles where most tissue is."""

from functools import cache

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from milpath.slides.deep_tissue import load_tissue_model, refine_tissue
from milpath.slides.detection.tile_cover import summed_area
from milpath.slides.detection.tissue_map import OTSU, TissueMap, map_tissue
from milpath.slides.readers.slide import require_all_bits
from milpath.slides.slide_view import SlideView, view_at
from milpath.slides.tile_grid import Grid, grid_over, inside_fraction
from milpath.slides.tile_positions import TilePositions
from milpath.slides.tiling_options import TileOptions

# Side of a tile in pixels of the thumbnail on which tissue is detected; the grid is shifted in steps of one pixel.
STEPS = 8
_ROWS_AT_ONCE = 512


def find_tissue(view: SlideView, options: TileOptions) -> TissueMap:
    """Return the map of a slide with eight pixels per side of a tile; see `map_tissue` and `refine_tissue`.

    Args:
        view: The slide at the resolution of the tiles.
        options: `tile_size`, `tissue_threshold` and `tissue_model` are used.

    Raises:
        ValueError: If the tissue model cannot be used for this slide.
    """
    step = max(1, options.tile_size // STEPS)
    small = view_at(view.slide, view.downsample * step)
    width, height = -(-view.size.width // step), -(-view.size.height // step)
    rows = range(0, height, _ROWS_AT_ONCE)
    pixels = np.concatenate([small.read(0, top, width, min(_ROWS_AT_ONCE, height - top)) for top in rows])
    found = map_tissue(pixels, options.tissue_threshold, (step, step))
    if options.tissue_model is None:
        return found
    return refine_tissue(view, found, pixels, load_tissue_model(options.tissue_model))


def survey(view: SlideView, picture: NDArray[np.uint8], tile_size: int) -> TissueMap:
    """Return the map of a slide from a picture of all of it, with at most eight pixels per side of a tile.

    Args:
        view: The slide at the resolution of the tiles.
        picture: Picture of the whole slide, uint8 `(height, width, 3)`.
        tile_size: Side of a tile in pixels of the view.
    """
    # The colours of ink are told from those of stains where a pixel averages several cells.
    factor = max(1, int(tile_size / STEPS / max(view.steps_of(picture))))
    small = np.asarray(Image.fromarray(picture).reduce(factor)) if factor > 1 else picture
    return map_tissue(small, None, view.steps_of(small))


def require_tissue(view: SlideView, tissue: TissueMap) -> None:
    """Refuse a slide without tissue.

    Raises:
        ValueError: With what is on the slide instead.
    """
    if tissue.tissue.any():
        return
    require_all_bits(view.slide)  # almost black, which looks like ink
    found = [
        f"{mask.mean():.0%} of it is {what}"
        for mask, what in ((tissue.marker, "ink"), (tissue.black, "black"))
        if mask.any()
    ]
    why = "; ".join(found) or "it has no colour anywhere"
    raise ValueError(f"{view.slide.path.name} shows no tissue: {why} (for grey slides use method=darkest or grid)")


def place_tissue(view: SlideView, options: TileOptions, tissue: TissueMap) -> TilePositions:
    """Return the tiles with the most tissue, on the grid offset that captures the most.

    For each offset of the grid (8 x 8 offsets without overlap), tiles with at least `min_tissue` are summed, at most
    `num_tiles` of them; the offset with the largest sum of tissue fractions wins, of ties the one with the strongest
    colour. Tiles are sorted by descending tissue, then by descending saturation, then in grid order.

    Args:
        view: The slide.
        options: `tile_size`, `overlap`, `num_tiles`, `min_tissue` and `min_inside` are used.
        tissue: Its map, from `find_tissue`.

    Raises:
        ValueError: If no tile has enough tissue.
    """
    require_tissue(view, tissue)
    tile_size, overlap, least = options.tile_size, options.overlap, options.min_tissue
    step = max(1, tile_size // STEPS)
    amount, stain = summed_area(tissue.tissue), summed_area(tissue.saturation)

    span = round(tile_size / step)

    # Eight offsets across and eight down make 64 grids.
    @cache
    def ends(first: int, count: int, stride: int, limit: int) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
        starts = np.round((first + np.arange(count) * stride) / step).astype(np.int64)
        return np.clip(starts, 0, limit - 1), np.clip(starts + span, 0, limit - 1)

    def means(table: NDArray[np.uint32], grid: Grid) -> NDArray[np.float64]:
        """Return the mean over each tile, row by row; pixels outside the image count as 0."""
        left, right = ends(grid.left, grid.columns, grid.stride, table.shape[1])
        top, bottom = ends(grid.top, grid.rows, grid.stride, table.shape[0])
        strips = table[bottom] - table[top]
        return np.asarray((strips[:, right] - strips[:, left]).ravel() / span**2)

    def tissue_of(grid: Grid) -> NDArray[np.float64]:
        fraction = means(amount, grid)
        if options.min_inside:
            corners = grid.corners(np.arange(grid.num_tiles))
            fraction[inside_fraction(*corners, tile_size, view.size) < options.min_inside] = 0
        return fraction

    # In milpath 0.1.0 the first of ties won.
    break_ties = options.tissue_threshold != OTSU
    best, best_score = None, (0.0, 0.0)
    for down, right in np.ndindex(*[max(1, (tile_size - overlap) // step)] * 2):
        grid = _shift(grid_over(*view.size, tile_size, overlap), right * step, down * step)
        fraction = tissue_of(grid)
        enough = np.flatnonzero(fraction >= least)
        order = np.argsort(-fraction[enough], kind="stable")[: options.num_tiles]
        amount_caught = float(fraction[enough][order].sum())
        if amount_caught < best_score[0]:
            continue
        strength = float(means(stain, grid)[enough][order].sum()) if break_ties else 0.0
        if (amount_caught, strength) > best_score:
            best, best_score = grid, (amount_caught, strength)
    if best is None:
        raise ValueError(
            f"{view.slide.path.name} has no tile of {tile_size} px with at least {least:.0%} tissue; "
            "lower min_tissue or tile_size"
        )
    fraction, stained = tissue_of(best), means(stain, best)
    kept = np.flatnonzero(fraction >= least)
    kept = kept[np.lexsort((kept, -stained[kept], -fraction[kept]))][: options.num_tiles]
    return TilePositions(*best.corners(kept), kept, fraction[kept])


def _shift(grid: Grid, right: int, down: int) -> Grid:
    """Return the shifted grid, started one tile earlier if the shift leaves a gap."""
    return grid._replace(
        left=grid.left + right - (grid.stride if right else 0),
        top=grid.top + down - (grid.stride if down else 0),
        columns=grid.columns + (1 if right else 0),
        rows=grid.rows + (1 if down else 0),
    )
