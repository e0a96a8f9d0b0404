"""Where the tiles of features lie on their slides, as far as the slides say what the files of features do not."""

import logging
from collections.abc import Iterator, Mapping
from contextlib import suppress
from pathlib import Path

import numpy as np

from milpath.data.store.bag_store import BagStore, TileRows
from milpath.data.store.level0_positions import level0_positions, resolution_of
from milpath.records.label_table import quote_first
from milpath.slides.readers.open_slide import open_slide
from milpath.slides.readers.slide import Slide
from milpath.slides.tile_positions import BOUNDS_COLUMNS, LEVEL0_COLUMNS

_log = logging.getLogger(__name__)
# Formats of which OpenSlide's plane is larger than the scanned area.
_CROPPED = (".mrxs", ".scn")
# Formats of thumbnails beside features; a small slide may have them as well.
_PICTURES = (".jpg", ".jpeg", ".png", ".bmp", ".webp")


def place_on_slides(store: BagStore, slides: Mapping[str, Path]) -> dict[str, Path]:
    """Add to a store of features, in memory, what its slides say: how large a pixel of level 0 is, and the scanned area.

    Positions in microns, as STAMP writes them, become pixels of level 0 by the resolution that the file of a slide states.
    The positions of TRIDENT are those of OpenSlide's plane, and annotations for QuPath need the scanned area of MRXS and
    SCN. A slide on which tiles would begin beyond its edge is not that of the features: it is named, and left without
    positions.

    Args:
        store: Tiles, which know their places, or features; of slides or of patients.
        slides: Name of a slide to its file, as far as it is at hand.

    Returns:
        The slides without pictures on which the tiles do not lie, such as the thumbnails that STAMP and TRIDENT write.
    """
    store = store.slide_store
    if len(store.tile_shape) == 3 or not slides:
        return dict(slides)
    found = dict(_facts_of_slides(store, slides))
    names = ("downsample", *BOUNDS_COLUMNS)
    known = {name: [(found.get(bag_id) or {}).get(name, np.nan) for bag_id in store.bags["bag_id"]] for name in names}
    store.bags = store.bags.assign(
        **{name: values for name, values in known.items() if name not in store.bags and not np.isnan(values).all()}
    )
    slides = {bag_id: path for bag_id, path in slides.items() if found.get(bag_id, {}) is not None}
    at_hand = [index for index, bag_id in enumerate(store.bags["bag_id"]) if bag_id in slides]
    unplaced = [index for index in at_hand if level0_positions(store, store.tile_slice(index)) is None]
    if unplaced:
        _log.warning(
            "%s of %s slides at hand have no pictures (first: %s): %s",
            f"{len(unplaced):,}", f"{len(at_hand):,}", quote_first([store.bags["bag_id"].iloc[unplaced[0]]]),
            why_unplaced(store, at_hand=True),
        )  # fmt: skip
    return dict(slides)


def why_unplaced(store: BagStore, *, at_hand: bool = False) -> str:
    """Return why the places of the tiles of features on their slides are not known, and what to give; one line.

    Args:
        store: A store of features, of slides.
        at_hand: Whether the slides are at hand.
    """
    columns = store.description["tile_columns"]
    if not {"x", "y"} <= set(columns):
        return "the files of the features hold no positions of tiles (the dataset coords)"
    if not _in_pixels_of_tiles(store):
        return (
            "the files of the features do not all say the side of a tile on level 0 (coords.attrs['patch_size_level0'])"
        )
    if not at_hand:
        return "their positions are in microns; give slides_dir=DIR, the folder of the slides, to find them there"
    return "their positions are in microns, and the file of the slide states no microns per pixel that fit them"


def _facts_of_slides(store: BagStore, slides: Mapping[str, Path]) -> Iterator[tuple[str, dict[str, float] | None]]:
    """Yield the values of the new columns for the slides at hand, `None` for a picture that is not the slide."""
    convert = _in_pixels_of_tiles(store)
    for index, bag_id in enumerate(store.bags["bag_id"].astype(str)):
        path = slides.get(bag_id)
        if path is None or not (convert or path.suffix.lower() in (*_CROPPED, *_PICTURES)):
            continue  # nothing is opened that is not needed: slides may be many, on a slow disk
        facts: dict[str, float] | None = None
        # A slide that cannot be read stops no prediction from its features.
        with suppress(ValueError, OSError), open_slide(path) as slide:
            facts = _facts_of_slide(store, store.tile_slice(index), slide, convert=convert)
        if facts is not None or path.suffix.lower() in _PICTURES:
            yield bag_id, facts


def _facts_of_slide(store: BagStore, where: TileRows, slide: Slide, *, convert: bool) -> dict[str, float] | None:
    """Return the values of the new columns for a slide; `None` if its tiles do not lie on it."""
    facts: dict[str, float] = dict(zip(BOUNDS_COLUMNS, slide.bounds_offset, strict=True))
    if convert:
        microns = resolution_of(store, where)[0]
        if not microns or not slide.microns_per_pixel:
            return None
        facts["downsample"] = microns / slide.microns_per_pixel
        rows = store.tile_rows(where)
        x, y = rows["x"].to_numpy() * facts["downsample"], rows["y"].to_numpy() * facts["downsample"]
    elif (places := level0_positions(store, where)) is not None:
        x, y = places.x0, places.y0
    else:
        return None
    return facts if np.nanmax(x) < slide.level_sizes[0].width and np.nanmax(y) < slide.level_sizes[0].height else None


def _in_pixels_of_tiles(store: BagStore) -> bool:
    """Return whether positions are pixels of the tiles, as from the microns of STAMP, rather than of level 0."""
    columns = set(store.description["tile_columns"])
    return {"x", "y"} <= columns and not columns & {"level", *LEVEL0_COLUMNS}
