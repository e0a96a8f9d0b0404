"""Montage and overlay pictures of the cases in a report."""

import os
import shutil
from collections import defaultdict
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path
from types import MappingProxyType

import numpy as np
from PIL import Image

from milpath.data.store.bag_store import BagStore
from milpath.data.store.level0_positions import level0_positions
from milpath.drawing.montage import draw_montage
from milpath.drawing.picture_frame import stacked
from milpath.drawing.tile_numbers import numbers_of_top_tiles
from milpath.drawing.warning_strip import with_warning
from milpath.inference.pictures.bag_pictures import title_of
from milpath.inference.pictures.class_overlays import draw_class_overlays, map_in_words
from milpath.inference.pictures.overlays import LONGEST_SIDE, SlidePicture, draw_bag_overlay, known_labels
from milpath.inference.pictures.placed_features import why_unplaced
from milpath.inference.pictures.sharpest_bags import tiles_of_bag
from milpath.inference.pictures.tile_pixels import slide_paths, tile_pixels
from milpath.inference.pictures.tile_pixels import slide_picture as picture_of_slide
from milpath.inference.predict_bags import BagPrediction
from milpath.inference.slides_of_bags import by_slide
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


def slides_of_report(store: BagStore, slides_dir: str | None, tested: str | None = None) -> Mapping[str, Path]:
    """Return the file of each slide of a store, as far as it is at hand.

    Args:
        store: Tiles or features.
        slides_dir: Folder of the slides.
        tested: What the bags were made from, which may be slides.

    Raises:
        ValueError: If `slides_dir` holds none of the slides of features.
    """
    where = slides_dir or tested
    slides = {} if where is None else slide_paths(store, Path(where))
    if slides_dir is not None and not slides and len(store.tile_shape) == 1:
        raise ValueError(
            f"slides_dir={slides_dir} holds none of the slides of {store.path}; give their folder, or none"
        )
    return slides


def has_pictures(store: BagStore, slides: Mapping[str, Path]) -> bool:
    """Return whether the pixels of tiles are at hand: in the store, or on the slides that features were made from."""
    return len(store.tile_shape) == 3 or bool(slides)


def without_pictures(store: BagStore | None, slides: Mapping[str, Path]) -> str:
    """Return why a report has no pictures and what to give, in one line; empty if it has some, or without a store."""
    if store is None or len(store.tile_shape) == 3:
        return ""
    of_slides = store.slide_store
    if all(level0_positions(of_slides, of_slides.tile_slice(index)) is None for index in range(len(of_slides))):
        return f"no pictures: {why_unplaced(of_slides, at_hand=bool(slides))}"
    if slides:
        return ""
    return "features have no pictures of their own; give slides_dir=DIR, the folder of their slides"


def draw_cases(
    predictions: Predictions,
    rows: Iterable[int],
    store: BagStore,
    folder: Path,
    slide_picture: Callable[[str], SlidePicture | None] | None = None,
    slides: Mapping[str, Path] = MappingProxyType({}),
    warning: str = "",
) -> dict[str, CasePictures]:
    """Draw the pictures of some cases; the folder is replaced once all are drawn.

    Args:
        predictions: The predictions, with the attention of each tile; of an average with how far its folds agree on it,
            which the titles of the pictures say.
        rows: Rows of the predictions to draw.
        store: The tiles, or their features.
        folder: Folder of the pictures.
        slide_picture: Function from bag to a picture of its slide; None takes it from `slides`. Without one, the tiles are
            assembled at their positions.
        slides: Bag to the file of its slide, from which the tiles of features are read.
        warning: Written below each picture; empty for none.

    Returns:
        Bag to the names of its files in the folder; bags of features whose slide is not at hand are left out.

    Raises:
        ValueError: If the store lacks a bag, or its number of tiles differs.
    """
    index_of = {bag_id: index for index, bag_id in enumerate(store.bags["bag_id"])}
    for left in folder.parent.glob(f"{folder.name}.partial-*"):  # of a killed process: a run has one writer
        shutil.rmtree(left, ignore_errors=True)
    partial = folder.with_name(f"{folder.name}.partial-{os.getpid()}")
    partial.mkdir(parents=True)
    try:
        drawn = {}
        for row in rows:
            bag_id, weights = predictions.bag_ids[row], predictions.attention[row]
            chosen = tiles_of_bag(store, index_of, bag_id, len(weights))
            pixels = tile_pixels(store, index_of[bag_id], slides)
            if pixels is None:
                continue
            # A hash, because a bag name may hold "../" or characters that a file system refuses.
            stem = sha256_of_text(bag_id)[:16]
            labels = known_labels(store, chosen)
            agreement = None if predictions.agreement is None else float(predictions.agreement[row])
            bag = BagPrediction(
                index_of[bag_id], bag_id, _NO_ANSWER, weights, predictions.maps_of(row),
                agreement=None if agreement is None or np.isnan(agreement) else agreement,
            )  # fmt: skip
            montage = draw_montage(pixels, weights, title=title_of(bag), tile_labels=labels)
            overlay, of_classes = _overlays(store, bag, slide_picture, slides)
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


def _overlays(
    store: BagStore,
    bag: BagPrediction,
    slide_picture: Callable[[str], SlidePicture | None] | None,
    files: Mapping[str, Path],
) -> tuple[Image.Image | None, dict[str, Image.Image]]:
    """Return the overlay of a bag and those of its maps; of the slides with the most attention if it has several."""
    slides, parts = store.slide_store, by_slide(store, bag)
    starts = np.cumsum([0, *(len(part.attention) for part in parts)])
    numbered = numbers_of_top_tiles(bag.attention)
    order = sorted(range(len(parts)), key=lambda place: -float(parts[place].attention.sum()))[:_MOST_SLIDES]
    overlays, of_classes = [], defaultdict(list)
    for place in order:
        part, start = parts[place], int(starts[place])
        numbers = {tile - start: words for tile, words in numbered.items() if start <= tile < starts[place + 1]}
        if slide_picture is not None:
            picture = slide_picture(part.bag_id)
        else:
            picture = picture_of_slide(slides, part.position, files, LONGEST_SIDE)
        named = f"{part.bag_id} · {part.attention.sum():.0%} of the attention" if store.grouped else part.bag_id
        chosen = slides.tile_slice(part.position)
        overlay = draw_bag_overlay(
            slides, chosen, part.attention, title_of(part._replace(bag_id=named)), picture,
            limits=part.limits.get("attention"), numbers=numbers,
        )  # fmt: skip
        overlays += [overlay] if overlay is not None else []
        for name, each in draw_class_overlays(
            slides, chosen, part.maps, part.bag_id, picture, limits=part.limits
        ).items():
            of_classes[name].append(each)
    return stacked(overlays) if overlays else None, {name: stacked(each) for name, each in of_classes.items()}


def _save(picture: Image.Image, path: Path) -> None:
    """Write a picture as JPEG; WebP is a quarter smaller but takes ten times as long."""
    picture.save(path, quality=QUALITY)
