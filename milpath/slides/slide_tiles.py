"""The tiles of a slide that were cut earlier, read from its file again when they are displayed."""

from collections.abc import Sequence
from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from milpath.slides.readers.open_slide import open_slide
from milpath.slides.readers.rgb import WHITE
from milpath.slides.slide_view import view_at

# A level that is this close to the resolution of the tiles was read without resampling when they were cut.
_SAME = 0.01


class SlideTiles:
    """Tiles of one slide, indexed like the array of its pixels; only the indexed ones are read.

    Args:
        path: The slide.
        x0: `(tiles,)` left edges in pixels of level 0; NaN for a white filler tile.
        y0: `(tiles,)` top edges likewise.
        downsample: Pixels of level 0 per pixel of a tile; less than 1 if the tiles are enlarged.
        tile_size: Side of a tile in pixels.

    Attributes:
        shape: `(tiles, tile_size, tile_size, 3)`.
        dtype: uint8.
        ndim: 4.
    """

    dtype = np.dtype(np.uint8)
    ndim = 4

    def __init__(
        self, path: Path, x0: NDArray[np.float64], y0: NDArray[np.float64], downsample: float, tile_size: int
    ) -> None:
        self._path = path
        self._places = np.stack([x0, y0], axis=1)
        self._downsample = downsample
        self.shape = (len(x0), tile_size, tile_size, 3)

    def __len__(self) -> int:
        return self.shape[0]

    def __getitem__(self, indices: Sequence[int] | NDArray[np.integer]) -> NDArray[np.uint8]:
        """Return the pixels of some tiles, uint8 `(indices, tile_size, tile_size, 3)`.

        Raises:
            FileNotFoundError: If there is no such slide any more.
            ValueError: If it cannot be read.
        """
        size = self.shape[1]
        side = max(1, round(size * min(1.0, self._downsample)))
        tiles = np.full((len(indices), size, size, 3), WHITE, np.uint8)
        with open_slide(self._path) as slide:
            view = view_at(slide, max(1.0, self._downsample), _SAME)
            for tile, place in zip(tiles, self._places[np.asarray(indices, np.int64)], strict=True):
                if not np.isnan(place).any():
                    x, y = view.from_level0(*place)
                    pixels = view.read(x, y, side, side)
                    tile[...] = pixels if side == size else _enlarged(pixels, size)
        return tiles


def _enlarged(pixels: NDArray[np.uint8], size: int) -> NDArray[np.uint8]:
    """Return a square of a slide at the size of a tile, which has more pixels than level 0."""
    return np.asarray(Image.fromarray(pixels).resize((size, size), Image.Resampling.BILINEAR))


class TilesOfSlides:
    """Tiles of a bag of several slides, indexed like an array; only the indexed ones are read.

    Attributes:
        shape: `(tiles, height, width, channels)`.
        dtype: uint8.
        ndim: 4.

    Args:
        slides: The tiles of each slide; all of one size.
    """

    dtype = np.dtype(np.uint8)
    ndim = 4

    def __init__(self, slides: Sequence[NDArray[np.uint8] | SlideTiles]) -> None:
        self._slides = slides
        self._ends: list[int] = np.cumsum([len(tiles) for tiles in slides]).tolist()
        self.shape: tuple[int, ...] = (self._ends[-1], *slides[0].shape[1:])

    def __len__(self) -> int:
        return self.shape[0]

    def __getitem__(self, indices: Sequence[int] | NDArray[np.integer]) -> NDArray[np.uint8]:
        """Return the tiles at some positions in the bag."""
        places = np.asarray(indices)
        owners = np.searchsorted(self._ends, places, side="right")
        found = np.empty((len(places), *self.shape[1:]), np.uint8)
        for number in np.unique(owners):
            start = self._ends[number] - len(self._slides[number])
            found[owners == number] = self._slides[number][places[owners == number] - start]
        return found
