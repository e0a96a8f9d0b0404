"""Montage and overlay pictures of the cases in a report."""

import os
import shutil
from collections import defaultdict
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from PIL import Image

from milpath.data.store.bag_store import BagStore
from milpath.drawing.montage import draw_montage
from milpath.drawing.picture_frame import stacked
from milpath.inference.class_overlays import draw_class_overlays, map_in_words
from milpath.inference.overlays import SlidePicture, draw_bag_overlay, known_labels
from milpath.inference.predict_bags import BagPrediction
from milpath.inference.sharpest_bags import tiles_of_bag
from milpath.inference.slides_of_bags import by_slide
from milpath.inference.tile_pixels import bag_tiles
from milpath.records.digests import sha256_of_text
from milpath.records.prediction_table import Predictions

QUALITY = 80
PICTURES = "report_files"
# Slides of a bag of which a report shows an overlay, those with the most attention.
_MOST_SLIDES = 6
_NO_ANSWER = np.empty(0, np.float32)


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
) -> dict[str, CasePictures]:
    """Draw the pictures of some cases; the folder is replaced once all are drawn.

    Args:
        predictions: The predictions, with the attention of each tile.
        rows: Rows of the predictions to draw.
        store: The tiles.
        folder: Folder of the pictures.
        slide_picture: Function from bag to a picture of its slide; if it is None or returns None, the tiles are assembled
            at their positions.

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
            montage = draw_montage(bag_tiles(store, index_of[bag_id]), weights, title=bag_id, tile_labels=labels)
            bag = BagPrediction(index_of[bag_id], bag_id, _NO_ANSWER, weights, predictions.maps_of(row))
            overlay, of_classes = _overlays(store, bag, slide_picture)
            files = tuple((map_in_words(name), f"{stem}_map_{number}.jpg") for number, name in enumerate(of_classes))
            for (_, file), of_class in zip(files, of_classes.values(), strict=True):
                _save(of_class, partial / file)
            drawn[bag_id] = CasePictures(f"{stem}_montage.jpg", f"{stem}_overlay.jpg" if overlay else None, files)
            _save(montage, partial / f"{stem}_montage.jpg")
            if overlay is not None:
                _save(overlay, partial / f"{stem}_overlay.jpg")
        if folder.exists():
            shutil.rmtree(folder)
        partial.replace(folder)
    finally:
        shutil.rmtree(partial, ignore_errors=True)
    return drawn


def _overlays(
    store: BagStore, bag: BagPrediction, slide_picture: Callable[[str], SlidePicture | None] | None
) -> tuple[Image.Image | None, dict[str, Image.Image]]:
    """Return the overlay of a bag and those of its maps; of the slides with the most attention if it has several."""
    slides, parts = store.slide_store, by_slide(store, bag)
    parts = sorted(parts, key=lambda part: -float(part.attention.sum()))[:_MOST_SLIDES]
    overlays, of_classes = [], defaultdict(list)
    for part in parts:
        picture = slide_picture(part.bag_id) if slide_picture else None
        title = f"{part.bag_id} · {part.attention.sum():.0%} of the attention" if store.grouped else part.bag_id
        chosen = slides.tile_slice(part.position)
        overlay = draw_bag_overlay(
            slides, chosen, part.attention, title, picture, limits=part.limits.get("attention")
        )
        overlays += [overlay] if overlay is not None else []
        for name, each in draw_class_overlays(slides, chosen, part.maps, part.bag_id, picture, limits=part.limits).items():
            of_classes[name].append(each)
    return stacked(overlays) if overlays else None, {name: stacked(each) for name, each in of_classes.items()}


def _save(picture: Image.Image, path: Path) -> None:
    """Write a picture as JPEG; WebP is a quarter smaller but takes ten times as long."""
    picture.save(path, quality=QUALITY)
