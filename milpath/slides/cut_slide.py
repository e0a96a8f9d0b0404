"""Cutting a slide into its bag of tiles."""

from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from milpath.slides.detection.tissue_map import TissueMap
from milpath.slides.readers.open_slide import open_slide
from milpath.slides.readers.slide import require_all_bits
from milpath.slides.slide_view import SlideView, thumbnail, view_slide
from milpath.slides.tile_grid import grid_over
from milpath.slides.tile_positions import TilePositions, place_all, place_darkest, read_places
from milpath.slides.tile_selection import BLANK_RANGE
from milpath.slides.tiling_options import TileOptions
from milpath.slides.tissue import find_tissue, place_tissue, require_tissue

_SMALL = 256


@dataclass(frozen=True)
class SlideBag:
    """The tiles of a slide in memory.

    Attributes:
        pixels: uint8 `(tiles, tile_size, tile_size, 3)`.
        places: Their positions, in pixels at the resolution of the tiles.
        level: Pyramid level that was read.
        downsample: Pixels of level 0 per pixel of a tile.
        microns_per_pixel: Resolution of the tiles; `None` if the slide does not state it.
    """

    pixels: NDArray[np.uint8]
    places: TilePositions
    level: int
    downsample: float
    microns_per_pixel: float | None


def cut_slide(path: str | Path, options: TileOptions | None = None) -> SlideBag:
    """Cut one slide into tiles, in memory.

    Args:
        path: The slide.
        options: How to cut it; `None` uses the rule of the PANDA tile set.

    Raises:
        FileNotFoundError: If there is no such file.
        ValueError: If it cannot be read, or is blank.
    """
    options = options or TileOptions()
    with open_slide(path) as slide:
        view = view_slide(slide, options)
        places = choose_places(view, options)
        size = options.tile_size
        pixels = np.empty((len(places.number), size, size, 3), np.uint8)
        for positions, tiles in cut_places(view, places, options):
            pixels[positions] = tiles
        return SlideBag(pixels, places, view.level, view.downsample, view.microns_per_pixel)


def choose_places(view: SlideView, options: TileOptions, tissue: TissueMap | None = None) -> TilePositions:
    """Return the positions of the tiles that the method selects.

    Args:
        view: The slide at the resolution of the tiles.
        options: How it is cut.
        tissue: Map of the slide from `find_tissue`; `None` makes it if the choice depends on it.

    Raises:
        ValueError: If the method needs tissue and there is none.
    """
    if options.needs_map and tissue is None:
        tissue = find_tissue(view, options)
    if options.method == "tissue":
        assert tissue is not None
        return place_tissue(view, options, tissue)
    grid = grid_over(*view.size, options.tile_size, options.overlap)
    if options.method == "grid":
        return place_all(view, grid, options.min_inside)
    if options.background == "white":
        return place_darkest(view, grid, options.num_tiles, options.min_inside)
    assert tissue is not None
    require_tissue(view, tissue)
    return place_darkest(view, grid, options.num_tiles, options.min_inside, tissue, options.min_tissue)


def cut_places(
    view: SlideView, places: TilePositions, options: TileOptions
) -> Iterator[tuple[NDArray[np.int64], NDArray[np.uint8]]]:
    """Yield the tiles in chunks that fit into memory: their indices in the bag and their pixels.

    Raises:
        ValueError: After the last chunk, if all tiles have one colour: an empty slide must not become a bag.
    """
    low, high = 255, 0
    for positions, tiles in read_places(view, places, options.tile_size):
        for position, tile in zip(positions, tiles, strict=True):
            if high - low > BLANK_RANGE:
                break
            x, y = int(places.x[position]), int(places.y[position])
            # Only of the slide, not of the white around it.
            inside = tile[max(-y, 0) : view.size.height - y, max(-x, 0) : view.size.width - x]
            if places.number[position] >= 0 and inside.size:
                low, high = min(low, int(inside.min())), max(high, int(inside.max()))
        yield positions, tiles
    require_all_bits(view.slide)
    if high - low <= BLANK_RANGE:
        by_darkness = options.method == "darkest" and options.background == "white"
        if by_darkness and np.ptp(thumbnail(view.slide, _SMALL)[0]) > 2 * BLANK_RANGE:
            padding = "black padding" if high <= BLANK_RANGE else "grey padding"
            raise ValueError(
                f"the darkest tiles of {view.slide.path.name} are {padding}, not tissue (values from {low} to {high}); "
                "add background=mask, or use method=tissue, where slides are tiled or extracted"
            )
        raise ValueError(
            f"{view.slide.path.name} is blank: all its tiles have one colour (values from {low} to {high})"
        )
