"""The slides of a predicted bag: which tiles are on which slide, and the share of the attention that each has."""

from collections.abc import Sequence
from typing import NamedTuple

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from milpath.data.store.bag_store import BagStore
from milpath.data.store.level0_positions import LEVEL0_COLUMNS, level0_positions, resolution_of
from milpath.drawing.picture_frame import attention_limits
from milpath.inference.annotations.attention_classes import attention_ranks
from milpath.inference.pictures.class_overlays import map_limits
from milpath.inference.predict_bags import BagPrediction


class SlideShare(NamedTuple):
    """A slide of a bag.

    Attributes:
        slide: Name of the slide.
        num_tiles: Number of its tiles.
        attention: Sum of the attention of its tiles, in [0, 1].
    """

    slide: str
    num_tiles: int
    attention: float


def by_slide(store: BagStore, bag: BagPrediction) -> list[BagPrediction]:
    """Return the prediction of a bag slide by slide, as bags of `store.slide_store`; the bag itself if bags are slides.

    The attention of a slide is its part of the attention of the bag and does not sum to 1. All slides of the bag are drawn
    on one colour scale, and their tiles are ranked together.

    Args:
        store: The store that was predicted.
        bag: A prediction of one of its bags.
    """
    if not store.grouped:
        return [bag]
    names = store.slide_store.bags["bag_id"]
    limits = {"attention": attention_limits(bag.attention)} | map_limits(bag.maps)
    ranks = attention_ranks(bag.attention)
    return [
        BagPrediction(
            part.position,
            str(names.iloc[part.position]),
            bag.probabilities,
            bag.attention[part.rows],
            {name: values[part.rows] for name, values in bag.maps.items()},
            limits,
            agreement=bag.agreement,  # over all tiles of the bag
            ranks=ranks[part.rows],
            num_ranked=len(ranks),
            tile_unfamiliarity=None if bag.tile_unfamiliarity is None else bag.tile_unfamiliarity[part.rows],
        )
        for part in store.slides_of(bag.position)
    ]


def slide_shares(store: BagStore, position: int, attention: NDArray[np.floating]) -> list[SlideShare]:
    """Return the slides of a bag with their shares of its attention, in the order of the store.

    Args:
        store: The store that was predicted.
        position: Position of the bag.
        attention: `(tiles,)` attention of the bag.
    """
    names = store.slide_store.bags["bag_id"]
    return [
        SlideShare(str(names.iloc[part.position]), part.rows.stop - part.rows.start, float(attention[part.rows].sum()))
        for part in store.slides_of(position)
    ]


def tile_rows(store: BagStore, position: int) -> pd.DataFrame:
    """Return the rows of the tile table of a bag; of a bag of several slides with `slide`, `tile` and `microns`.

    Features whose slides say where their tiles are (`place_on_slides`) have `x0`, `y0` and `size0` as well.

    Args:
        store: The store that was predicted.
        position: Position of the bag.

    Returns:
        `slide` is the slide of a tile, `tile` its number in the slide, `microns` the microns per pixel of the slide, NaN if
        unknown.
    """
    rows, slides = store.tile_rows(store.tile_slice(position)), store.slide_store
    parts = store.slides_of(position)
    if len(store.tile_shape) == 1 and LEVEL0_COLUMNS[0] not in rows:
        rows = rows.assign(**_level0_columns(slides, [part.position for part in parts]))
    if not store.grouped:
        return rows
    lengths = [part.rows.stop - part.rows.start for part in parts]
    microns = [resolution_of(slides, slides.tile_slice(part.position))[0] or np.nan for part in parts]
    numbers = np.concatenate([np.arange(length) for length in lengths])
    return rows.assign(microns=np.repeat(np.array(microns, np.float64), lengths), tile=numbers)


def _level0_columns(slides: BagStore, positions: Sequence[int]) -> dict[str, NDArray[np.float64]]:
    """Return the places of the tiles of some slides, one slide after the other; NaN where they are unknown."""
    columns = []
    for position in positions:
        unknown = np.full(int(slides.num_tiles[position]), np.nan)
        places = level0_positions(slides, slides.tile_slice(position))
        known = None if places is None else (places.x0, places.y0, np.full(len(unknown), places.size0))
        columns.append(known or (unknown, unknown, unknown))
    return {name: np.concatenate(own) for name, *own in zip(LEVEL0_COLUMNS, *columns, strict=True)}
