"""Pixels of the tiles of a bag, for pictures: those of a store of tiles, or of the slide that features were made from."""

from collections.abc import Mapping, Sequence
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from milpath.data.store.bag_store import BagStore
from milpath.data.store.level0_positions import level0_positions, resolution_of
from milpath.slides.slide_files import find_slides
from milpath.slides.slide_tiles import SlideTiles



class StoredTiles:
    """Tiles of a bag of several slides, indexed like an array; only the indexed ones are read from the store.

    Attributes:
        shape: `(tiles, height, width, channels)`.
        dtype: That of the store.
        ndim: Number of dimensions.
    """

    def __init__(self, store: BagStore, position: int) -> None:
        self._tiles, self._rows = store.tiles, store.rows_of(position)
        self.shape = (len(self._rows), *store.tile_shape)
        self.dtype, self.ndim = store.tiles.dtype, store.tiles.ndim

    def __len__(self) -> int:
        return self.shape[0]

    def __getitem__(self, indices: Sequence[int] | NDArray[np.integer]) -> NDArray[np.uint8]:
        """Return the tiles at some positions in the bag."""
        return np.asarray(self._tiles[self._rows[indices]])


Pixels = NDArray[np.uint8] | SlideTiles | StoredTiles


def bag_tiles(store: BagStore, position: int) -> NDArray[np.uint8] | StoredTiles:
    """Return the image tiles of a bag of a store, without a copy."""
    where = store.tile_slice(position)
    return np.asarray(store.tiles[where]) if isinstance(where, slice) else StoredTiles(store, position)


def tile_pixels(store: BagStore, position: int, slides: Mapping[str, Path]) -> Pixels | None:
    """Return the tiles of a bag, `(tiles, height, width, channels)`; `None` for features whose slide is not at hand.

    Args:
        store: A store of tiles or of features, with a bag per slide.
        position: Position of the bag.
        slides: Name of a slide to its file.
    """
    where = store.tile_slice(position)
    if len(store.tile_shape) == 3:
        return store.tiles[where]
    path, places = slides.get(str(store.bags["bag_id"].iloc[position])), level0_positions(store, where)
    if path is None or places is None:
        return None
    downsample = resolution_of(store, where)[1]
    return SlideTiles(path, places.x0, places.y0, downsample, round(places.size0 / downsample))


def slide_paths(store: BagStore, slides: Path) -> dict[str, Path]:
    """Return the file of each slide of a store at a path: those it was cut from; for features, also those of its name."""
    store = store.slide_store
    found: dict[str, Path] = {}
    if "slide_file" in store.bags:
        root = slides if slides.is_dir() else slides.parent
        files = {name: root / file for name, file in zip(store.bags["bag_id"], store.bags["slide_file"], strict=True)}
        found = {name: path for name, path in files.items() if path.is_file()}
    if not found and len(store.tile_shape) == 1 and slides.exists():
        of_name = find_slides(slides).found
        found = {name: of_name[name] for name in store.bags["bag_id"] if name in of_name}
    return found
