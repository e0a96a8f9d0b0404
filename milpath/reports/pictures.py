"""Montage and overlay of each case, drawn into the folder beside the page."""

import hashlib
import os
import shutil
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from milpath.data.bag_store import BagStore
from milpath.data.predictions import Predictions
from milpath.reports.overlays import SlidePicture, draw_bag_overlay, known_labels, positions_of
from milpath.slides.montage import TileRow, draw_extremes, draw_montage

QUALITY = 80


@dataclass(frozen=True)
class CasePictures:
    """Names of the files of a case.

    Attributes:
        montage: The bag as a montage.
        overlay: Attention on tissue; None where it is unknown where the tiles lie.
    """

    montage: str
    overlay: str | None


def draw_cases(
    predictions: Predictions,
    rows: Iterable[int],
    store: BagStore,
    folder: Path,
    slide_picture: Callable[[str], SlidePicture | None] | None = None,
) -> dict[str, CasePictures]:
    """Draw the pictures of some cases; the folder appears when all are drawn and replaces the one before.

    Args:
        predictions: Where the attention comes from.
        rows: Rows of the predictions.
        store: Where the tiles come from.
        folder: Folder of the pictures.
        slide_picture: From bag to a picture of its slide; None, or a bag for which it returns None, puts the tiles
            together where they lie.

    Returns:
        Bag to the names of its files in the folder.

    Raises:
        ValueError: If the store lacks a bag or the bag has another number of tiles there.
    """
    index_of = {bag_id: index for index, bag_id in enumerate(store.bags["bag_id"])}
    partial = folder.with_name(f"{folder.name}.partial-{os.getpid()}")
    partial.mkdir(parents=True)
    try:
        drawn = {}
        for row in rows:
            bag_id, weights = predictions.bag_ids[row], predictions.attention[row]
            chosen = _tiles_of(store, index_of, bag_id, len(weights))
            # A hash, not the name: a name may hold "../" or what a file system refuses.
            stem = hashlib.sha256(bag_id.encode()).hexdigest()[:16]
            labels = known_labels(store, chosen)
            montage = draw_montage(np.asarray(store.tiles[chosen]), weights, title=bag_id, tile_labels=labels)
            overlay = draw_bag_overlay(store, chosen, weights, bag_id, slide_picture(bag_id) if slide_picture else None)
            drawn[bag_id] = CasePictures(f"{stem}_montage.jpg", f"{stem}_overlay.jpg" if overlay else None)
            _save(montage, partial / f"{stem}_montage.jpg")
            if overlay is not None:
                _save(overlay, partial / f"{stem}_overlay.jpg")
        if folder.exists():
            shutil.rmtree(folder)
        partial.replace(folder)
    finally:
        shutil.rmtree(partial, ignore_errors=True)
    return drawn


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
            where = _tiles_of(store, index_of, name, len(own))
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


def _tiles_of(store: BagStore, index_of: Mapping[str, int], bag_id: str, num_weights: int) -> slice:
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


def _save(picture: Image.Image, path: Path) -> None:
    """Write a picture as JPEG: WebP is a quarter smaller but takes ten times as long."""
    picture.save(path, quality=QUALITY)
