"""The bags whose attention is the sharpest: found in the tables of a prediction, and drawn with their best tiles."""

import csv
import heapq
from collections.abc import Callable, Iterator, Mapping
from itertools import groupby
from pathlib import Path

import numpy as np
import pandas as pd
from numpy.typing import NDArray
from PIL import Image

from milpath.data.store.bag_store import BagStore
from milpath.drawing.montage import TileRow, draw_extremes
from milpath.inference.overlays import positions_of


def read_strongest(output: Path, first_class: str, count: int) -> dict[str, NDArray[np.float64]]:
    """Return name and weights of the bags whose best tile has the most equal shares, the sharpest first.

    The tables are walked through, never held: memory does not grow with the number of slides.

    Args:
        output: Folder with `predictions.csv` and `attention.csv`.
        first_class: Bags called other than this are looked at; all bags, if there are none.
        count: Bags at most.
    """
    table = pd.read_csv(output / "predictions.csv", usecols=["id", "predicted"], dtype=str, keep_default_na=False)
    called = set(table["id"][table["predicted"] != first_class]) or set(table["id"])
    bags = ((weights.max() * len(weights), name, weights) for name, weights in _bags(output) if name in called)
    return {name: weights for _, name, weights in heapq.nlargest(count, bags, key=lambda bag: float(bag[0]))}


def _bags(output: Path) -> Iterator[tuple[str, NDArray[np.float64]]]:
    """Yield name and weights of each bag; the rows of one stand together."""
    with (output / "attention.csv").open(newline="", encoding="utf-8") as file:
        for name, rows in groupby(csv.DictReader(file), key=lambda row: row["id"]):
            yield name, np.array([float(row["weight"]) for row in rows])


def draw_run_extremes(
    attention: Mapping[str, NDArray[np.floating]], store: BagStore, count: int = 6
) -> Image.Image | None:
    """Draw the tiles with the most and the least attention of a run, one a bag; None if there is no bag.

    Weights are shares of a bag, so bags are ranked by how many equal shares their best tile has.

    Args:
        attention: Bag to its weights, for instance of the malignant bags of the test split that were found.
        store: Where the tiles come from.
        count: Tiles of each kind.
    """
    index_of = {bag_id: index for index, bag_id in enumerate(store.bags["bag_id"])}
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
            tiles.append(store.tiles[where.start + place])
            weights.append(float(own[place]))
            captions.append(f"{own[place]:.3f} {name}")
        drawn.append(TileRow(title, np.stack(tiles), np.array(weights), captions))
    return draw_extremes(drawn)


def _cut_from_slide(store: BagStore, where: slice) -> NDArray[np.int64]:
    """Return the numbers of the tiles of a bag but for white ones that fill it up, which lie nowhere."""
    positions = positions_of(store, where)
    return np.arange(where.stop - where.start) if positions is None else np.flatnonzero(~np.isnan(positions[0]))


def tiles_of_bag(store: BagStore, index_of: Mapping[str, int], bag_id: str, num_weights: int) -> slice:
    """Return where the tiles of a bag lie in the store."""
    if bag_id not in index_of:
        raise ValueError(
            f"bag {bag_id!r} of predictions.csv is not in {store.path}; give the store it was predicted from"
        )
    chosen = store.tile_slice(index_of[bag_id])
    if chosen.stop - chosen.start != num_weights:
        raise ValueError(
            f"bag {bag_id!r} has {num_weights} attention weights but {chosen.stop - chosen.start} tiles in {store.path}; "
            "give the store it was predicted from"
        )
    return chosen
