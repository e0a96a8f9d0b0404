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

from milpath.data.store.bag_store import BagStore, TileRows
from milpath.drawing.montage import TileRow, draw_extremes
from milpath.inference.pictures.overlays import positions_of
from milpath.inference.pictures.tile_pixels import tile_pixels
from milpath.inference.prediction_files import ATTENTION, PREDICTIONS, table_path


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
        names = store.slide_store.bags["bag_id"]
        attention = {
            name: own
            for name, own in attention.items()
            if all(names.iloc[part.position] in slides for part in store.slides_of(index_of[name]))
        }
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
            tiles_of_bag(store, index_of, name, len(own))
            parts = store.slides_of(index_of[name])
            places = np.concatenate([part.rows.start + _cut_from_slide(store, part.position) for part in parts])
            place = int(places[choose(own[places])])
            part = next(part for part in parts if place < part.rows.stop)
            pixels = tile_pixels(store.slide_store, part.position, slides)
            if pixels is None:
                return None  # features whose tiles have no position on the slide
            tiles.append(pixels[[place - part.rows.start]][0])
            weights.append(float(own[place]))
            captions.append(f"{own[place]:.3f} {name}")
        drawn.append(TileRow(title, np.stack(tiles), np.array(weights), captions))
    return draw_extremes(drawn)


def _cut_from_slide(store: BagStore, slide: int) -> NDArray[np.int64]:
    """Return the indices of the tiles of a slide except for white filler tiles, which have no position."""
    slides = store.slide_store
    positions = positions_of(slides, slides.tile_slice(slide))
    if positions is None:
        return np.arange(int(slides.num_tiles[slide]))
    return np.flatnonzero(~np.isnan(positions[0]))


def tiles_of_bag(store: BagStore, index_of: Mapping[str, int], bag_id: str, num_weights: int) -> TileRows:
    """Return the tiles of a bag in the store."""
    if bag_id not in index_of:
        raise ValueError(
            f"bag {bag_id!r} of predictions.csv is not in {store.path}; give the store from which it was predicted"
        )
    if (num_tiles := int(store.num_tiles[index_of[bag_id]])) != num_weights:
        raise ValueError(
            f"bag {bag_id!r} has {num_weights} attention weights but {num_tiles} tiles in {store.path}; "
            "give the store it was predicted from"
        )
    return store.tile_slice(index_of[bag_id])
