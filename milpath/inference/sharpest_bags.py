"""The bags with the sharpest attention, read from the tables of a prediction and drawn with their top tiles."""

import csv
import heapq
from collections.abc import Callable, Iterator, Mapping
from itertools import groupby
from pathlib import Path
from types import MappingProxyType

import numpy as np
import pandas as pd
from numpy.typing import NDArray
from PIL import Image

from milpath.data.store.bag_store import BagStore
from milpath.drawing.montage import TileRow, draw_extremes
from milpath.inference.overlays import positions_of
from milpath.inference.prediction_files import ATTENTION, PREDICTIONS, table_path
from milpath.inference.tile_pixels import tile_pixels


def read_strongest(output: Path, first_class: str | None, count: int) -> dict[str, NDArray[np.float64]]:
    """Return names and weights of the bags with the largest weight in multiples of the equal share, sharpest first.

    The tables are streamed: memory does not grow with the number of slides.

    Args:
        output: Folder of a prediction, complete or with all slides done.
        first_class: Only bags predicted as another class are used; if there are none, all bags. `None` uses
            all, for a target without classes.
        count: Maximum number of bags.
    """
    columns = ["id"] if first_class is None else ["id", "predicted"]
    table = pd.read_csv(table_path(output, PREDICTIONS), usecols=columns, dtype=str, keep_default_na=False)
    called = set(table["id"])
    if first_class is not None:
        called = set(table["id"][table["predicted"] != first_class]) or called
    bags = ((weights.max() * len(weights), name, weights) for name, weights in _bags(output) if name in called)
    return {name: weights for _, name, weights in heapq.nlargest(count, bags, key=lambda bag: float(bag[0]))}


def _bags(output: Path) -> Iterator[tuple[str, NDArray[np.float64]]]:
    """Yield the name and weights of each bag; the rows of a bag are contiguous."""
    with table_path(output, ATTENTION).open(newline="", encoding="utf-8") as file:
        for name, rows in groupby(csv.DictReader(file), key=lambda row: row["id"]):
            yield name, np.array([float(row["weight"]) for row in rows])


def draw_run_extremes(
    attention: Mapping[str, NDArray[np.floating]],
    store: BagStore,
    count: int = 6,
    slides: Mapping[str, Path] = MappingProxyType({}),
) -> Image.Image | None:
    """Draw the tiles with the most and the least attention of a run, one per bag; `None` if there is no bag.

    Weights are relative to a bag, so bags are ranked by their largest weight in multiples of the equal share.

    Args:
        attention: Bag to its weights, such as those of the correctly predicted malignant test bags.
        store: Store of the tiles, or of their features.
        count: Number of tiles of each kind.
        slides: Slide to its file, from which the tiles of features are read.
    """
    index_of = {bag_id: index for index, bag_id in enumerate(store.bags["bag_id"])}
    if len(store.tile_shape) != 3:
        attention = {name: own for name, own in attention.items() if name in slides}
    chosen = sorted(attention, key=lambda name: -float(attention[name].max()) * len(attention[name]))[:count]
    if not chosen:
        return None
    kinds: tuple[tuple[str, Callable[[NDArray[np.floating]], np.intp]], ...] = (
        ("most attention", np.argmax),
        ("least attention in the same bags", np.argmin),
    )
    drawn = []
    for title, choose in kinds:
        tiles, weights, captions = [], [], []
        for name in chosen:
            own = attention[name]
            where = tiles_of_bag(store, index_of, name, len(own))
            places = _cut_from_slide(store, where)
            place = int(places[choose(own[places])])
            pixels = tile_pixels(store, index_of[name], slides)
            if pixels is None:
                return None  # features whose tiles have no position on the slide
            tiles.append(pixels[[place]][0])
            weights.append(float(own[place]))
            captions.append(f"{own[place]:.3f} {name}")
        drawn.append(TileRow(title, np.stack(tiles), np.array(weights), captions))
    return draw_extremes(drawn)


def _cut_from_slide(store: BagStore, where: slice) -> NDArray[np.int64]:
    """Return the indices of the tiles of a bag except for white filler tiles, which have no position."""
    positions = positions_of(store, where)
    return np.arange(where.stop - where.start) if positions is None else np.flatnonzero(~np.isnan(positions[0]))


def tiles_of_bag(store: BagStore, index_of: Mapping[str, int], bag_id: str, num_weights: int) -> slice:
    """Return the slice of the tiles of a bag in the store."""
    if bag_id not in index_of:
        raise ValueError(
            f"bag {bag_id!r} of predictions.csv is not in {store.path}; give the store from which it was predicted"
        )
    chosen = store.tile_slice(index_of[bag_id])
    if chosen.stop - chosen.start != num_weights:
        raise ValueError(
            f"bag {bag_id!r} has {num_weights} attention weights but {chosen.stop - chosen.start} tiles in {store.path}; "
            "give the store it was predicted from"
        )
    return chosen
