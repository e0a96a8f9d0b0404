"""Montage and overlay pictures of the cases in a report."""

import os
import shutil
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from PIL import Image

from milpath.data.store.bag_store import BagStore
from milpath.drawing.montage import draw_montage
from milpath.drawing.warning_strip import with_warning
from milpath.inference.class_overlays import draw_class_overlays, map_in_words
from milpath.inference.overlays import SlidePicture, draw_bag_overlay, known_labels
from milpath.inference.sharpest_bags import tiles_of_bag
from milpath.records.digests import sha256_of_text
from milpath.records.prediction_table import Predictions

QUALITY = 80
PICTURES = "report_files"


@dataclass(frozen=True)
class CasePictures:
    """File names of the pictures of a case.

    Attributes:
        montage: Montage of the tiles.
        overlay: Attention on tissue; None if the positions of the tiles are unknown.
        class_overlays: Words and file of the map of each class, for networks that have them.
    """

    montage: str
    overlay: str | None
    class_overlays: tuple[tuple[str, str], ...] = ()


def draw_cases(
    predictions: Predictions,
    rows: Iterable[int],
    store: BagStore,
    folder: Path,
    slide_picture: Callable[[str], SlidePicture | None] | None = None,
    warning: str = "",
) -> dict[str, CasePictures]:
    """Draw the pictures of some cases; the folder is replaced once all are drawn.

    Args:
        predictions: The predictions, with the attention of each tile.
        rows: Rows of the predictions to draw.
        store: The tiles.
        folder: Folder of the pictures.
        slide_picture: Function from bag to a picture of its slide; if it is None or returns None, the tiles are assembled
            at their positions.
        warning: Written below each picture; empty for none.

    Returns:
        Bag to the names of its files in the folder.

    Raises:
        ValueError: If the store lacks a bag, or its number of tiles differs.
    """
    index_of = {bag_id: index for index, bag_id in enumerate(store.bags["bag_id"])}
    partial = folder.with_name(f"{folder.name}.partial-{os.getpid()}")
    partial.mkdir(parents=True)
    try:
        drawn = {}
        for row in rows:
            bag_id, weights = predictions.bag_ids[row], predictions.attention[row]
            chosen = tiles_of_bag(store, index_of, bag_id, len(weights))
            # A hash, because a bag name may hold "../" or characters that a file system refuses.
            stem = sha256_of_text(bag_id)[:16]
            labels = known_labels(store, chosen)
            montage = draw_montage(np.asarray(store.tiles[chosen]), weights, title=bag_id, tile_labels=labels)
            picture = slide_picture(bag_id) if slide_picture else None
            overlay = draw_bag_overlay(store, chosen, weights, bag_id, picture)
            of_classes = draw_class_overlays(store, chosen, predictions.maps_of(row), bag_id, picture)
            files = tuple((map_in_words(name), f"{stem}_map_{number}.jpg") for number, name in enumerate(of_classes))
            for (_, file), of_class in zip(files, of_classes.values(), strict=True):
                _save(with_warning(of_class, warning), partial / file)
            drawn[bag_id] = CasePictures(f"{stem}_montage.jpg", f"{stem}_overlay.jpg" if overlay else None, files)
            _save(with_warning(montage, warning), partial / f"{stem}_montage.jpg")
            if overlay is not None:
                _save(with_warning(overlay, warning), partial / f"{stem}_overlay.jpg")
        if folder.exists():
            shutil.rmtree(folder)
        partial.replace(folder)
    finally:
        shutil.rmtree(partial, ignore_errors=True)
    return drawn


def _save(picture: Image.Image, path: Path) -> None:
    """Write a picture as JPEG; WebP is a quarter smaller but takes ten times as long."""
    picture.save(path, quality=QUALITY)
