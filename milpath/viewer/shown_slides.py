"""The slides of a bag in the answer of the app: all as one patient, their shares of the attention, and pictures."""

import numpy as np
import pandas as pd
from PIL import Image

from milpath.data.store.bag_store import BagStore
from milpath.data.store.grouped_store import GroupedStore
from milpath.drawing.montage import draw_montage
from milpath.drawing.warning_strip import with_warning
from milpath.inference.pictures.bag_pictures import BagPictures
from milpath.inference.pictures.class_overlays import map_in_words
from milpath.inference.pictures.tile_pixels import tile_pixels
from milpath.inference.predict_bags import BagPrediction
from milpath.inference.slide_page.slide_pages import SlidePages
from milpath.inference.slides_of_bags import by_slide
from milpath.viewer.shown_answer import ShownSlide

# A title names so many slides.
_NAMED = 3
# Pixels of the images of all slides of an answer, which are part of the page, and at least of each.
_VIEWER_PIXELS, _MIN_VIEWER_PIXELS = 6_000_000, 1_000_000


def one_bag(store: BagStore) -> GroupedStore:
    """Return all slides of a store as one bag, the patient; its name is that of the slides."""
    names = store.bags["bag_id"].astype(str).tolist()
    more = [] if len(names) <= _NAMED else [f"{len(names) - _NAMED + 1} more slides"]
    shown = names if not more else names[: _NAMED - 1]
    return GroupedStore(store, pd.DataFrame({"bag_id": [" + ".join([*shown, *more])]}), [np.arange(len(store))])


def draw_slides(pictures: BagPictures, bag: BagPrediction) -> tuple[ShownSlide, ...]:
    """Return the slides of a bag with their overlays and viewers, all on one colour scale."""
    slides, of_bag = [], by_slide(pictures.bags, bag)
    pixels = max(_MIN_VIEWER_PIXELS, _VIEWER_PIXELS // len(of_bag))
    pages = SlidePages(pictures.store, pictures.slides, pictures.colour_map, pictures.warning, pixels)
    for own in of_bag:
        picture = pictures.slide_picture(own)
        overlay, of_classes = pictures.overlay(own, picture), pictures.class_overlays(own, picture)
        slides.append(
            ShownSlide(
                own.bag_id,
                len(own.attention),
                float(own.attention.sum()),
                None if overlay is None else with_warning(overlay, pictures.warning),
                tuple(
                    (map_in_words(name), with_warning(drawn, pictures.warning)) for name, drawn in of_classes.items()
                ),
                pages.inline(own) or "",
            )
        )
    return tuple(slides)


def draw_whole_montage(pictures: BagPictures, bag: BagPrediction) -> Image.Image:
    """Return the tiles of a bag, of all its slides, with their weights.

    Raises:
        ValueError: If these are features of a slide that is not at hand.
    """
    pixels = tile_pixels(pictures.bags, bag.position, pictures.slides)
    if pixels is None:
        raise ValueError(f"the slide of {bag.bag_id!r} is not at hand; its features have no pixels")
    return draw_montage(pixels, bag.attention, title=bag.bag_id)
