"""The files of slides under the names of bags, as far as the tiles of the bags lie on them."""

import logging
from collections.abc import Iterator, Mapping
from pathlib import Path

import numpy as np
from PIL import Image

from milpath.data.store.bag_store import BagStore
from milpath.data.store.level0_positions import level0_positions, microns_of_level0, resolution_of
from milpath.records.digests import sampled_sha256_of_file
from milpath.records.label_table import quote_first
from milpath.slides.readers.open_slide import open_slide
from milpath.slides.slide_tiles import SlideTiles

_log = logging.getLogger(__name__)
# Two files of one scan may differ in compression; blocks of this many pixels of different places differ by more.
_BLOCKS, _ALIKE = 8, 24
# Of the microns per pixel of the slide that was cut; what TRIDENT calls 20x has 0.6 to 1.2 of the nominal 0.5.
_LEAST, _MOST = 0.55, 1.5


class SlidesAtHand(Mapping[str, Path]):
    """Name of a slide to its file; a file on which the tiles of the slide do not lie is left out, and named in the log.

    A file is opened when it is first asked for: slides may be many, on a slow disk. Whether there are any (`bool`) is told
    by their names alone.

    Args:
        store: Tiles or features, with a bag per slide.
        found: Name of a slide to its file.
    """

    def __init__(self, store: BagStore, found: Mapping[str, Path]) -> None:
        self._store = store
        self._found = dict(found)
        self._positions = {str(bag_id): index for index, bag_id in enumerate(store.bags["bag_id"])}
        self._known: dict[str, bool] = {}

    def __getitem__(self, name: str) -> Path:
        path = self._found[name]
        if name not in self._known:
            self._known[name] = _is_of(self._store, self._positions[name], path)
            if not self._known[name]:
                _log.warning(
                    "%s is not the slide from which the tiles of %s were cut, and is not drawn: give the file that was cut",
                    path, quote_first([name]),
                )  # fmt: skip
        if not self._known[name]:
            raise KeyError(name)
        return path

    def __iter__(self) -> Iterator[str]:
        return (name for name in self._found if name in self)

    def __len__(self) -> int:
        return sum(1 for _ in self)

    def __bool__(self) -> bool:
        return bool(self._found)


def _is_of(store: BagStore, position: int, path: Path) -> bool:
    """Return whether tiles begin within a slide and, of a file that is not known, whether a tile or its resolution fits."""
    where = store.tile_slice(position)
    places = level0_positions(store, where)
    if places is None:
        return True
    try:
        with open_slide(path) as slide:
            width, height = slide.level_sizes[0]
            stated = slide.microns_per_pixel
    except (OSError, ValueError):
        return True  # what draws it says why it cannot be read
    if np.nanmax(places.x0) >= width or np.nanmax(places.y0) >= height:
        return False
    cut_from = store.bags["slide_fingerprint"].iloc[position] if "slide_fingerprint" in store.bags else None
    if isinstance(cut_from, str) and sampled_sha256_of_file(path) == cut_from:
        return True
    if len(store.tile_shape) != 3:
        microns = microns_of_level0(store, where)
        return microns is None or stated is None or _LEAST < stated / microns < _MOST
    if not isinstance(cut_from, str):
        return True
    tile = int(np.flatnonzero(~np.isnan(places.x0))[0])
    one = slice(tile, tile + 1)
    side = store.tile_shape[0]
    seen = SlideTiles(path, places.x0[one], places.y0[one], resolution_of(store, where)[1], side)[[0]][0]
    return bool(np.abs(_blocks(seen) - _blocks(np.asarray(store.tiles[where])[tile])).mean() <= _ALIKE)


def _blocks(tile: np.ndarray) -> np.ndarray:
    """Return the means of a few blocks of a tile `(height, width, 3)`."""
    return np.asarray(Image.fromarray(tile).resize((_BLOCKS, _BLOCKS), Image.Resampling.BOX), np.float64)
