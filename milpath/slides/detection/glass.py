"""Colour of the empty glass of a slide, and a picture in which the glass is white."""

import numpy as np
from numpy.typing import NDArray

from milpath.slides.detection.saturation import extremes, hue_of, saturation
from milpath.slides.readers.rgb import WHITE

# Glass under any lamp is at least this bright and has at most this saturation (both from 0 to 255).
_LEAST_BRIGHTNESS, _LARGEST_SATURATION = 150, 52
# In the hues of pale stains (blue to pink, in degrees) its saturation is at most this.
_STAINS, _LARGEST_IN_STAINS = (200, 350), 20
# Glass is smooth: neighbouring pixels of the thumbnail differ by at most this much.
_SMOOTH = 6
# A smaller share of the slide is not taken for glass.
_LEAST_SHARE = 0.005
# A peak of the histogram counts if it has at least this share of the pixels of the largest one.
_LEAST_PEAK = 0.1
_NEAR = 6
# Pixels that say enough of a colour.
_ENOUGH = 200_000
_AT_ONCE = 1 << 18


def glass_colour(pixels: NDArray[np.uint8]) -> NDArray[np.float64]:
    """Return the colour of the empty glass, `(3,)` from 0 to 255; white if the slide shows none.

    Glass is the brightest frequent colour among smooth, bright and nearly grey pixels. Exact white is not considered:
    scanners fill what they did not scan with it.

    Args:
        pixels: Thumbnail, uint8 `(height, width, 3)`.
    """
    high, low = extremes(pixels)
    bright = (high >= _LEAST_BRIGHTNESS) & (low < WHITE)
    candidates = (bright & _smooth(pixels)).ravel()
    every = max(1, int(np.count_nonzero(candidates)) // _ENOUGH)
    colours = pixels.reshape(-1, 3)[_every(candidates, every)]
    strength = saturation(colours[None])[0]
    grey, strong = strength <= _LARGEST_IN_STAINS, strength > _LARGEST_SATURATION
    tinted = np.flatnonzero(~grey & ~strong)
    hue = hue_of(colours[tinted])
    colours = colours[np.concatenate([np.flatnonzero(grey), tinted[(hue < _STAINS[0]) | (hue > _STAINS[1])]])]
    if len(colours) * every < _LEAST_SHARE * bright.size:
        return np.full(3, float(WHITE))
    level = colours @ np.full(3, 1 / 3, np.float32)
    counts = np.convolve(np.bincount(level.astype(np.int64), minlength=256), np.ones(5), mode="same")
    # A peak is not smaller than its neighbourhood; the slope below a brighter peak is not one.
    around = np.lib.stride_tricks.sliding_window_view(np.pad(counts, _NEAR, mode="wrap"), 2 * _NEAR + 1).max(axis=1)
    peak = int(np.flatnonzero((counts == around) & (counts >= _LEAST_PEAK * counts.max()))[-1])
    return np.asarray(np.median(colours[np.abs(level - peak) <= _NEAR], axis=0), np.float64)


def whiten_glass(pixels: NDArray[np.uint8], glass: NDArray[np.float64]) -> NDArray[np.uint8]:
    """Return the picture under a lamp that makes the glass white: each channel is divided by that of the glass.

    In optical density this subtracts the density of the glass (Beer and Lambert).

    Args:
        pixels: uint8 `(height, width, 3)`.
        glass: Colour of the glass, `(3,)` from 0 to 255.

    Example:
        >>> whiten_glass(np.array([[[240, 230, 200], [120, 115, 100]]], np.uint8), np.array([240.0, 230.0, 200.0])).tolist()
        [[[255, 255, 255], [127, 127, 127]]]
    """
    table = np.minimum(np.arange(256)[:, None] * WHITE / glass, WHITE).astype(np.uint8)
    return np.stack([table[pixels[:, :, channel], channel] for channel in range(3)], axis=2)


def _every(mask: NDArray[np.bool_], step: int) -> NDArray[np.int64]:
    """Return `np.flatnonzero(mask)[::step]` without the numbers in between, which would be larger than the picture."""
    found, seen = [np.empty(0, np.int64)], 0
    for start in range(0, len(mask), _AT_ONCE):
        numbers = np.flatnonzero(mask[start : start + _AT_ONCE])
        found.append(numbers[-seen % step :: step] + start)
        seen += len(numbers)
    return np.concatenate(found)


def _smooth(pixels: NDArray[np.uint8]) -> NDArray[np.bool_]:
    """Return where a pixel is like its neighbours to the right and below; there are none at the far edges."""
    green = np.ascontiguousarray(pixels[:, :, 1])
    smooth = np.ones(green.shape, bool)
    smooth[:, :-1] = _is_near(green[:, 1:], green[:, :-1])
    smooth[:-1] &= _is_near(green[1:], green[:-1])
    return smooth


def _is_near(one: NDArray[np.uint8], other: NDArray[np.uint8]) -> NDArray[np.bool_]:
    """Return where two pictures differ by at most what smooth glass does."""
    return np.asarray(np.maximum(one, other) - np.minimum(one, other) <= _SMOOTH)
