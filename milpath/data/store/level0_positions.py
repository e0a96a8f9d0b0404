"""Positions of the tiles of a bag on its slide, in pixels of level 0."""

from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from milpath.data.store.bag_store import BagStore, TileRows
from milpath.slides.tile_positions import BOUNDS_COLUMNS as BOUNDS_COLUMNS
from milpath.slides.tile_positions import LEVEL0_COLUMNS as LEVEL0_COLUMNS

# Columns of `bags.csv` from which places and resolutions are read: a column of a label table is never one of them.
SLIDE_FACTS = ("microns_per_pixel", "downsample", *BOUNDS_COLUMNS)


class Level0Positions(NamedTuple):
    """Where the tiles of a bag lie on its slide.

    Attributes:
        x0: `(tiles,)` left edges in pixels of level 0 of the whole plane, as OpenSlide counts them; NaN for a tile
            without a position.
        y0: `(tiles,)` top edges likewise.
        size0: Side of a tile in pixels of level 0.
    """

    x0: NDArray[np.float64]
    y0: NDArray[np.float64]
    size0: float


def level0_positions(store: BagStore, chosen: TileRows) -> Level0Positions | None:
    """Return the places of the tiles of a bag; `None` if they are unknown.

    A store without the columns `x0`, `y0` and `size0` (from ready-made tiles, or milpath 0.1.0) has `x` and `y` in
    pixels at the resolution of the tiles, from which they are computed.

    Args:
        store: The store.
        chosen: The tiles (`store.tile_slice`), all of one slide.
    """
    names = set(store.description["tile_columns"])
    if not ({"x", "y"} <= names or set(LEVEL0_COLUMNS) <= names):
        return None
    if set(LEVEL0_COLUMNS) <= names:
        rows = store.tile_rows(chosen)
        x0, y0, sizes = (rows[name].to_numpy(np.float64) for name in LEVEL0_COLUMNS)
        return None if np.isnan(x0).all() else Level0Positions(x0, y0, float(np.nanmax(sizes)))
    tiling = store.description.get("tiling") or {}
    size = store.tile_shape[0] if len(store.tile_shape) == 3 else tiling.get("tile_size_level0")
    if size is None and _value_of(store, chosen, "downsample"):
        size = tiling.get("tile_size")  # of features whose slide says what a pixel of level 0 is
    if not isinstance(size, int | float) or size <= 0:
        return None  # features whose tiles have an unknown size
    rows = store.tile_rows(chosen)
    x, y = rows["x"].to_numpy(np.float64), rows["y"].to_numpy(np.float64)
    if np.isnan(x).all() or ("level" in rows and rows["level"].nunique() > 1):
        return None
    downsample = resolution_of(store, chosen)[1]
    return Level0Positions(x * downsample, y * downsample, float(size) * downsample)


def resolution_of(store: BagStore, chosen: TileRows) -> tuple[float | None, float]:
    """Return the microns per pixel of the tiles of a bag (`None` if unknown) and their downsample from level 0."""
    microns, downsample = (_value_of(store, chosen, name) for name in ("microns_per_pixel", "downsample"))
    return microns or None, downsample or _downsample_of_sizes(store, chosen) or 1.0


def microns_of_level0(store: BagStore, chosen: TileRows, stated: float | None = None) -> float | None:
    """Return the microns per pixel of level 0 of the slide of a bag; `None` if unknown.

    Args:
        store: The store.
        chosen: The tiles, all of one slide.
        stated: What the slide itself states, if it is at hand: it counts where the store has none, or only one that follows
            from a nominal magnification (20x is from 0.31 to 0.6 microns).
    """
    microns, downsample = resolution_of(store, chosen)
    if stated is not None and (microns is None or "magnification" in (store.description.get("encoder") or {})):
        return stated
    return None if microns is None else microns / downsample


def _downsample_of_sizes(store: BagStore, chosen: TileRows) -> float:
    """Return the side of a tile on level 0 over that which the encoder saw; 0 if features do not say both."""
    # As they were cut, rather than as the authors of the encoder advise.
    cut, encoder = (store.description.get(name) or {} for name in ("tiling", "encoder"))
    tile_size = cut.get("tile_size") or encoder.get("tile_size")
    if not tile_size or "size0" not in store.description["tile_columns"]:
        return 0.0
    size0 = store.tile_rows(chosen)["size0"].max()
    return float(size0) / tile_size if np.isfinite(size0) else 0.0


def bounds_offset(store: BagStore, chosen: TileRows) -> tuple[float, float]:
    """Return the corner of the scanned area of a bag's slide in pixels of level 0; (0, 0) if none is known."""
    left, top = (_value_of(store, chosen, name) for name in BOUNDS_COLUMNS)
    return left, top


def _value_of(store: BagStore, chosen: TileRows, name: str) -> float:
    """Return a positive number that is stored for the slide or for all slides, 0 if it is unknown."""
    # Slides of one store may differ; values shared by all slides are in the description.
    bags = store.slide_store.bags
    value = store.description.get(name)
    if name in bags:
        first = chosen.start if isinstance(chosen, slice) else int(chosen[0])
        starts = bags["start"].to_numpy()
        index = int(np.flatnonzero((starts <= first) & (first < starts + bags["num_tiles"].to_numpy()))[0])
        value = bags[name].iloc[index]
    number = float(value) if isinstance(value, int | float | np.number) else 0.0
    return number if np.isfinite(number) and number > 0 else 0.0
