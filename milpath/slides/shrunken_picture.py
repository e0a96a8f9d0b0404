"""Pictures at a lower resolution: Pillow's bilinear resampling after a reduction to means."""

import math

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from milpath.slides.readers.slide import Size

# So many bytes have a sum that fits into 16 bits, which is three times as fast as 32.
_MOST_IN_16_BITS = 257


def shrink(
    pixels: NDArray[np.uint8], size: Size, box: tuple[float, float, float, float], reducing_gap: float
) -> NDArray[np.uint8]:
    """Return exactly what Pillow's `resize` with a reducing gap returns, without its copy of the whole picture.

    Args:
        pixels: uint8 `(height, width, 3)`.
        size: Width and height of the result.
        box: Left, top, right and bottom edge of the part that is resized.
        reducing_gap: How much finer than the result the source of the resampling filter is at least.

    Returns:
        uint8 `(size.height, size.width, 3)`.
    """
    scales = [(box[axis + 2] - box[axis]) / size[axis] for axis in (0, 1)]
    across, down = (max(1, int(scale / reducing_gap)) for scale in scales)
    if across == down == 1:
        return np.asarray(Image.fromarray(pixels).resize(size, Image.Resampling.BILINEAR, box))
    # The filter reads half a pixel of the result beyond the box.
    left, top = (max(0, int(box[axis] - scales[axis] / 2)) for axis in (0, 1))
    right, bottom = (min(pixels.shape[1 - axis], math.ceil(box[axis + 2] + scales[axis] / 2)) for axis in (0, 1))
    means = mean_pixels(pixels[top:bottom, left:right], across, down)
    inner = ((box[0] - left) / across, (box[1] - top) / down, (box[2] - left) / across, (box[3] - top) / down)
    return np.asarray(Image.fromarray(means).resize(size, Image.Resampling.BILINEAR, inner))


def mean_pixels(pixels: NDArray[np.uint8], across: int, down: int) -> NDArray[np.uint8]:
    """Return the mean of each rectangle of pixels, rounded as Pillow's `reduce` rounds.

    Args:
        pixels: uint8 `(height, width, 3)`.
        across: Width of a rectangle; those at the right edge may be narrower.
        down: Height of a rectangle likewise.

    Returns:
        uint8 `(ceil(height / down), ceil(width / across), 3)`.

    Example:
        >>> mean_pixels(np.arange(18, dtype=np.uint8).reshape(2, 3, 3), 2, 2).tolist()
        [[[6, 7, 8], [11, 12, 13]]]
    """
    height, width = pixels.shape[:2]
    rows, columns = height // down, width // across
    means = np.empty((-(-height // down), -(-width // across), 3), np.uint8)
    if rows and columns:
        sums = np.empty((rows, width * 3), np.uint16 if down <= _MOST_IN_16_BITS else np.uint32)
        for row in range(rows):
            np.add.reduce(
                pixels[row * down : (row + 1) * down].reshape(down, -1), axis=0, dtype=sums.dtype, out=sums[row]
            )
        # Pillow divides by a multiplication, whose factor it computes with floats of 32 bits.
        factor = np.uint32(np.float32(1 << 32) / np.float32(256 * across * down))
        # Each channel by itself, since loops over three samples are slow.
        total = np.empty((rows, columns), np.uint16 if across * down <= _MOST_IN_16_BITS else np.uint32)
        for channel in range(3):
            total[...] = sums[:, channel : 3 * columns * across : 3 * across]
            for column in range(1, across):
                total += sums[:, channel + 3 * column : 3 * columns * across : 3 * across]
            means[:rows, :columns, channel] = (total + np.uint32(across * down // 2)) * factor >> np.uint32(24)
    if columns * across < width:
        means[:, columns:] = _reduced(pixels[:, columns * across :], across, down)
    if rows * down < height and columns:
        means[rows:, :columns] = _reduced(pixels[rows * down :, : columns * across], across, down)
    return means


def _reduced(pixels: NDArray[np.uint8], across: int, down: int) -> NDArray[np.uint8]:
    """Return Pillow's own result, for the few pixels at an edge."""
    return np.asarray(Image.fromarray(np.ascontiguousarray(pixels)).reduce((across, down)))
