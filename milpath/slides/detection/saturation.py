"""HSV saturation and hue of pixels, and Otsu's threshold of a histogram."""

import numpy as np
from numpy.typing import NDArray

# The saturation of darker pixels (borders, missing parts) is meaningless.
_LEAST_BRIGHTNESS = 30
# Colours whose hue is computed at a time: their dozen intermediate results stay in the processor's cache.
_AT_ONCE = 1 << 15


def saturation(pixels: NDArray[np.uint8]) -> NDArray[np.uint8]:
    """Return the HSV saturation of each pixel from 0 to 255; 0 for nearly black pixels.

    Example:
        >>> saturation(np.array([[[200, 100, 150], [240, 240, 240], [9, 0, 9]]], np.uint8)).tolist()
        [[127, 0, 0]]
    """
    high, low = extremes(pixels)
    value = (high - low).astype(np.uint16) * 255 // np.maximum(high, 1)
    value[high < _LEAST_BRIGHTNESS] = 0
    return np.asarray(value.astype(np.uint8))


def extremes(pixels: NDArray[np.uint8]) -> tuple[NDArray[np.uint8], NDArray[np.uint8]]:
    """Return the largest and the smallest channel of each pixel, `(height, width)`; faster than along an axis of three."""
    red, green, blue = pixels[..., 0], pixels[..., 1], pixels[..., 2]
    return np.maximum(np.maximum(red, green), blue), np.minimum(np.minimum(red, green), blue)


def hue_of(colours: NDArray[np.uint8]) -> NDArray[np.float32]:
    """Return the HSV hue of colours in degrees, `(colours,)`; 0 for grey.

    Example:
        >>> hue_of(np.array([[255, 0, 0], [0, 255, 0], [0, 0, 255], [9, 9, 9]], np.uint8)).tolist()
        [0.0, 120.0, 240.0, 0.0]
    """
    hue = np.empty(len(colours), np.float32)
    for start in range(0, len(colours), _AT_ONCE):
        part = colours[start : start + _AT_ONCE]
        red, green, blue = (part[:, channel].astype(np.float32) for channel in range(3))
        high = np.maximum(np.maximum(red, green), blue)
        span = np.maximum(high - np.minimum(np.minimum(red, green), blue), 1)
        turns = np.where(
            high == red,
            (green - blue) / span,
            np.where(high == green, 2 + (blue - red) / span, 4 + (red - green) / span),
        )
        hue[start : start + _AT_ONCE] = turns * 60 % 360
    return hue


def otsu_threshold(values: NDArray[np.uint8]) -> int:
    """Return the threshold that best separates a histogram into two classes; larger values are the upper class.

    The threshold maximises the variance between the classes, w0 w1 (m0 - m1)^2.

    References:
        Otsu. A threshold selection method from gray-level histograms. IEEE Transactions on Systems, Man, and Cybernetics,
        1979, equation 12.

    Example:
        >>> otsu_threshold(np.array([10, 11, 12, 200, 201], np.uint8))
        12
    """
    counts = np.bincount(values.ravel(), minlength=256).astype(np.float64)
    below = np.cumsum(counts)
    above = below[-1] - below
    weighted = np.cumsum(counts * np.arange(256))
    with np.errstate(divide="ignore", invalid="ignore"):
        between = below * above * (weighted / below - (weighted[-1] - weighted) / above) ** 2
    return int(np.argmax(np.nan_to_num(between, nan=-1.0)))
