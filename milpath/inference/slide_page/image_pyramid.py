"""Deep Zoom pyramids of bounded size: JPEG tiles of an image that is read in strips."""

import io
import math
from collections.abc import Callable, Iterator
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from milpath.slides.readers.slide import Slide
from milpath.slides.slide_view import view_at

Pixels = NDArray[np.uint8]
TILE_SIZE = 512
# Neighbours share a pixel, so that no seam shows at a zoom between two levels.
OVERLAP = 1
QUALITY = 82


class Source(NamedTuple):
    """An image that is read in parts.

    Attributes:
        width: In pixels.
        height: In pixels.
        downsample: Pixels of level 0 of the slide per pixel of the image.
        read: `read(x, y, width, height)` returns a region inside the image, uint8 RGB `(height, width, 3)`.
    """

    width: int
    height: int
    downsample: float
    read: Callable[[int, int, int, int], Pixels]


class PyramidTile(NamedTuple):
    """A tile of a pyramid: level (0 is a single pixel), column, row and the bytes of its JPEG file."""

    level: int
    column: int
    row: int
    jpeg: bytes


def slide_source(slide: Slide, max_pixels: int) -> Source:
    """Return an open slide as an image of at most `max_pixels`; the slide must stay open while it is read."""
    width, height = slide.level_sizes[0]
    view = view_at(slide, max(1.0, math.sqrt(width * height / max_pixels)))
    return Source(*view.size, view.downsample, view.read)


def array_source(pixels: Pixels, downsample: float) -> Source:
    """Return an image in memory as a source.

    Args:
        pixels: uint8 RGB `(height, width, 3)`.
        downsample: Pixels of level 0 of its slide per pixel.
    """

    def read(x: int, y: int, width: int, height: int) -> Pixels:
        return pixels[y : y + height, x : x + width]

    return Source(pixels.shape[1], pixels.shape[0], downsample, read)


def level_range(width: int, height: int) -> tuple[int, int]:
    """Return the smallest level that is written, which is a single tile, and the level of the full size.

    Example:
        >>> level_range(2220, 2967)
        (9, 12)
    """
    largest = max(1, math.ceil(math.log2(max(width, height))))
    return max(0, largest - math.ceil(math.log2(max(1.0, max(width, height) / TILE_SIZE)))), largest


def pyramid_tiles(source: Source) -> Iterator[PyramidTile]:
    """Yield the tiles of a pyramid, from its largest level; memory holds a quarter of the image at most."""
    smallest, level = level_range(source.width, source.height)
    size = source.width, source.height
    below = np.empty((math.ceil(size[1] / 2), math.ceil(size[0] / 2), 3), np.uint8)
    read = source.read
    while True:
        for row, top in enumerate(range(0, size[1], TILE_SIZE)):
            first, last = max(0, top - OVERLAP), min(size[1], top + TILE_SIZE + OVERLAP)
            strip = read(0, first, size[0], last - first)
            for column, left in enumerate(range(0, size[0], TILE_SIZE)):
                part = strip[:, max(0, left - OVERLAP) : left + TILE_SIZE + OVERLAP]
                yield PyramidTile(level, column, row, _jpeg(part))
            inner = strip[top - first : top - first + TILE_SIZE]
            below[top // 2 : top // 2 + math.ceil(len(inner) / 2)] = _halved(inner)
        if level == smallest:
            return
        image = below
        read = array_source(image, 1.0).read
        level, size = level - 1, (image.shape[1], image.shape[0])
        below = np.empty((math.ceil(size[1] / 2), math.ceil(size[0] / 2), 3), np.uint8)


def _halved(pixels: Pixels) -> Pixels:
    """Return an image of half the size, rounded up; each pixel is the mean of up to four."""
    return np.asarray(Image.fromarray(np.ascontiguousarray(pixels)).reduce(2))


def _jpeg(pixels: Pixels) -> bytes:
    file = io.BytesIO()
    Image.fromarray(np.ascontiguousarray(pixels)).save(file, "JPEG", quality=QUALITY)
    return file.getvalue()
