"""A mask as small as the picture of its slide; values are taken as they are, never mixed."""

import numpy as np
from numpy.typing import NDArray

from milpath.slides.readers.slide import Slide

_STRIP_PIXELS = 4096 * 4096


def read_mask(mask: Slide, width: int, height: int) -> NDArray[np.uint8]:
    """Return the value at the middle of each pixel of a small picture, uint8 `(height, width)`.

    Args:
        mask: Open mask, over the same field as the picture; the value lies in the red channel.
        width: Pixels of the picture.
        height: Likewise.
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
