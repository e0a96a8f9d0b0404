"""Reading a mask at the size of a thumbnail, without interpolation of its values."""

import numpy as np
from numpy.typing import NDArray

from milpath.slides.readers.slide import Slide

_STRIP_PIXELS = 4096 * 4096


def read_mask(mask: Slide, width: int, height: int) -> NDArray[np.uint8]:
    """Return the mask value at the centre of each pixel of a thumbnail, uint8 `(height, width)`.

    Args:
        mask: Open mask of the same field as the thumbnail; its values are in the red channel. width: Width of the
            thumbnail in pixels. height: Height of the thumbnail in pixels.
    """
    enough = [level for level, size in enumerate(mask.level_sizes) if size.width >= width and size.height >= height]
    level = enough[-1] if enough else 0
    size = mask.level_sizes[level]
    rows = ((np.arange(height) + 0.5) * size.height / height).astype(np.int64)
    columns = ((np.arange(width) + 0.5) * size.width / width).astype(np.int64)
    values = np.empty((height, width), np.uint8)
    step = max(1, _STRIP_PIXELS // size.width)
    for top in range(0, size.height, step):
        chosen = (rows >= top) & (rows < top + step)
        if chosen.any():
            strip = mask.read(level, 0, top, size.width, min(step, size.height - top))
            values[chosen] = strip[rows[chosen] - top][:, columns, 0]
    return values
