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
from milpath.slides.heatmap import draw_beside_truth, draw_overlay, label_map, tile_span
from milpath.slides.montage import TileRow, draw_extremes, draw_montage

Pixels = NDArray[np.uint8]
LONGEST_SIDE = 700
# Tiles put together leave gaps where no tile was chosen; paper white would look like slide.
NO_TILE = 236
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


@dataclass(frozen=True)
class SlidePicture:
    """A slide, small.

    Attributes:
        pixels: uint8 `(height, width, 3)`.
        scale: Its pixels per pixel of the level that the tiles were read at.
        microns_per_pixel: Of its pixels; None where unknown.
    """

    pixels: Pixels
    scale: float
    microns_per_pixel: float | None = None


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
            labels = _known_labels(store, chosen)
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
    predictions: Predictions, rows: Iterable[int], store: BagStore, count: int = 6
) -> Image.Image | None:
    """Draw the tiles with the most and the least attention of a run, one a bag; None if there is no bag.

    Weights are shares of a bag, so bags are ranked by how many equal shares their best tile has.

    Args:
        predictions: Where the attention comes from.
        rows: Rows of the predictions, for instance the malignant bags of the test split that were found.
        store: Where the tiles come from.
        count: Tiles of each kind.
    """
    index_of = {bag_id: index for index, bag_id in enumerate(store.bags["bag_id"])}
    ranked = sorted(rows, key=lambda row: -float(predictions.attention[row].max()) * len(predictions.attention[row]))
    chosen = ranked[:count]
    if not chosen:
        return None
    kinds: tuple[tuple[str, Callable[[NDArray[np.floating]], np.intp]], ...] = (
        ("most attention", np.argmax),
        ("least attention in the same bags", np.argmin),
    )
    drawn = []
    for title, choose in kinds:
        tiles, weights, captions = [], [], []
        for row in chosen:
            own = predictions.attention[row]
            place = int(choose(own))
            tiles.append(store.tiles[_tiles_of(store, index_of, predictions.bag_ids[row], len(own)).start + place])
            weights.append(float(own[place]))
            captions.append(f"{own[place]:.3f} {predictions.bag_ids[row]}")
        drawn.append(TileRow(title, np.stack(tiles), np.array(weights), captions))
    return draw_extremes(drawn)


def put_together(tiles: Pixels, x: NDArray[np.floating], y: NDArray[np.floating]) -> tuple[SlidePicture, float, float]:
    """Put the tiles of a bag where they lie.

    Args:
        tiles: uint8 `(tiles, size, size, 3 or 1)`.
        x: `(tiles,)` left edges; NaN where a tile lies nowhere.
        y: `(tiles,)` top edges.

    Returns:
        The picture, and what to subtract from x and from y for positions in it.
    """
    size = tiles.shape[1]
    left, top = float(np.nanmin(x)), float(np.nanmin(y))
    width, height = float(np.nanmax(x)) + size - left, float(np.nanmax(y)) + size - top
    scale = min(1.0, LONGEST_SIDE / max(width, height))
    shape = max(1, round(height * scale)), max(1, round(width * scale))
    canvas = np.full((*shape, 3), NO_TILE, np.uint8)
    for tile, tile_x, tile_y in zip(tiles, x, y, strict=True):
        if np.isnan(tile_x) or np.isnan(tile_y):
            continue
        rows = tile_span(tile_y - top, size, scale, shape[0])
        columns = tile_span(tile_x - left, size, scale, shape[1])
        target = columns.stop - columns.start, rows.stop - rows.start
        if min(target) > 0:
            picture = Image.fromarray(tile if tile.shape[2] == 3 else np.repeat(tile, 3, axis=2))
            canvas[rows, columns] = np.asarray(picture.resize(target, Image.Resampling.BILINEAR))
    return SlidePicture(canvas, scale), left, top


def draw_bag_overlay(
    store: BagStore,
    chosen: slice,
    weights: NDArray[np.floating],
    title: str = "",
    picture: SlidePicture | None = None,
) -> Image.Image | None:
    """Draw attention on the tissue of a bag, the truth beside it where tile labels are known.

    Args:
        store: Where the tiles come from.
        chosen: Where the tiles of the bag lie in it (`store.tile_slice`).
        weights: `(tiles,)` attention.
        title: Stands above.
        picture: The slide, small; None puts the tiles together where they lie.

    Returns:
        The picture; None where it is unknown where the tiles lie.
    """
    positions = _positions(store, chosen)
    if positions is None:
        return None
    x, y = positions
    size = store.tile_shape[0]
    if picture is None:
        picture, left, top = put_together(np.asarray(store.tiles[chosen]), x, y)
        x, y = x - left, y - top
        resolution = store.description.get("microns_per_pixel")
        microns = resolution / picture.scale if isinstance(resolution, int | float) and resolution > 0 else None
    else:
        microns = picture.microns_per_pixel
    overlay = draw_overlay(picture.pixels, weights, x, y, size, picture.scale, title=title, microns_per_pixel=microns)
    labels = _known_labels(store, chosen)
    if labels is None:
        return overlay
    truth = label_map(labels, x, y, size, picture.scale, (picture.pixels.shape[0], picture.pixels.shape[1]))
    return draw_beside_truth(overlay, picture.pixels, truth, {1: "tile known to matter"}, alpha=0.45)


def _known_labels(store: BagStore, chosen: slice) -> NDArray[np.int64] | None:
    """Return the tile labels of a bag; None if none is known."""
    labels = None if store.tile_labels is None else store.tile_labels[chosen]
    return None if labels is None or (labels < 0).all() else labels


def _positions(store: BagStore, chosen: slice) -> tuple[NDArray[np.float64], NDArray[np.float64]] | None:
    """Return x and y of the tiles of a bag; None where they are unknown or of more than one level."""
    table: Mapping[str, object] = dict.fromkeys(store.description["tile_columns"])
    if not {"x", "y"} <= set(table):
        return None
    rows = store.tiles_table.iloc[chosen]
    x, y = rows["x"].to_numpy(np.float64), rows["y"].to_numpy(np.float64)
    if np.isnan(x).all() or ("level" in rows and rows["level"].nunique() > 1):
        return None
    return x, y


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
