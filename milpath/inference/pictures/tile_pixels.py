"""Pixels of the tiles of a bag, for pictures: those of a store of tiles, or of the slide that features were made from."""

from collections.abc import Mapping
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from milpath.data.store.bag_store import BagStore
from milpath.data.store.level0_positions import level0_positions, microns_of_level0, resolution_of
from milpath.inference.pictures.overlays import SlidePicture
from milpath.inference.pictures.placed_features import place_on_slides
from milpath.inference.pictures.slides_at_hand import SlidesAtHand
from milpath.slides.readers.open_slide import open_slide
from milpath.slides.readers.slide_formats import SLIDE_SUFFIXES, is_folder_slide
from milpath.slides.slide_files import find_slides
from milpath.slides.slide_tiles import SlideTiles, TilesOfSlides
from milpath.slides.slide_view import thumbnail

Pixels = NDArray[np.uint8] | SlideTiles | TilesOfSlides


def tile_pixels(store: BagStore, position: int, slides: Mapping[str, Path]) -> Pixels | None:
    """Return the tiles of a bag, `(tiles, height, width, channels)`; `None` for features whose slide is not at hand.

    Args:
        store: A store of tiles or of features.
        position: Position of the bag.
        slides: Name of a slide to its file.
    """
    if len(parts := store.slides_of(position)) > 1:
        found = [tile_pixels(store.slide_store, part.position, slides) for part in parts]
        known = [tiles for tiles in found if tiles is not None and not isinstance(tiles, TilesOfSlides)]
        return TilesOfSlides(known) if len(known) == len(parts) else None
    store, position = store.slide_store, parts[0].position
    where = store.tile_slice(position)
    if len(store.tile_shape) == 3:
        return store.tiles[where]
    path, places = slides.get(str(store.bags["bag_id"].iloc[position])), level0_positions(store, where)
    if path is None or places is None:
        return None
    downsample = resolution_of(store, where)[1]
    return SlideTiles(path, places.x0, places.y0, downsample, round(places.size0 / downsample))


def slide_picture(store: BagStore, position: int, slides: Mapping[str, Path], longest_side: int) -> SlidePicture | None:
    """Return the thumbnail of the slide of a bag; `None` if it is not at hand.

    Args:
        store: A store of tiles or of features, with a bag per slide.
        position: Position of the slide.
        slides: Name of a slide to its file.
        longest_side: Of the thumbnail, in pixels.
    """
    path = slides.get(str(store.bags["bag_id"].iloc[position]))
    if path is None:
        return None
    with open_slide(path) as slide:
        pixels, small = thumbnail(slide, longest_side)
        microns = microns_of_level0(store, store.tile_slice(position), slide.microns_per_pixel)
    return SlidePicture(pixels, 1 / small, None if microns is None else microns * small)


def slide_paths(store: BagStore, slides: Path) -> Mapping[str, Path]:
    """Return the file of each slide of a store at a path: those it was cut from; for features, also those of its name.

    A file on which the tiles do not lie is left out when it is asked for (`SlidesAtHand`). What the slides say about the
    places of features is added to the store in memory (`place_on_slides`).
    """
    store = store.slide_store
    found: dict[str, Path] = {}
    if "slide_file" in store.bags:
        root = slides if slides.is_dir() else slides.parent
        files = {name: root / file for name, file in zip(store.bags["bag_id"], store.bags["slide_file"], strict=True)}
        found = {
            name: path
            for name, path in files.items()
            if path.is_file() or (path.is_dir() and is_folder_slide(path.name))
        }
    # A file of another kind is that of the features.
    may_be_slides = slides.is_dir() or (slides.is_file() and slides.suffix.lower() in SLIDE_SUFFIXES)
    if not found and len(store.tile_shape) == 1 and may_be_slides:
        of_name = find_slides(slides).found
        found = place_on_slides(store, {name: of_name[name] for name in store.bags["bag_id"] if name in of_name})
    return SlidesAtHand(store, found) if found else {}
