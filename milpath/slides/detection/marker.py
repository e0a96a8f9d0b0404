"""Marker ink of any colour, and black padding, told from stained tissue by their colour."""

from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from milpath.slides.detection.neighbours import dilate
from milpath.slides.detection.saturation import extremes, hue_of

# Scanners fill what they did not scan with exact black; compression leaves it nearly black.
_DIGITAL_BLACK = 10
_GREY = 12


class _Ink(NamedTuple):
    """Range of colours of an ink.

    Attributes:
        first: First hue in degrees; a range may pass 360.
        last: Last hue.
        core: Pixels of at least this saturation, from 0 to 255, are ink.
        least_value: Brightness of the brightest channel from 0 to 255.
    """

    first: float
    last: float
    core: int
    least_value: int

    @property
    def width(self) -> float:
        """Degrees from the first hue to the last."""
        return (self.last - self.first) % 360


# Haematoxylin has hues from about 220 (a pale counterstain) to 270 degrees, eosin and blood from 310 to 15, DAB and melanin
# from 15 to 45. Saturation on a thumbnail, where a pixel averages several cells, rarely exceeds 150 in these stains.
_INKS = (
    _Ink(195, 245, 140, 40),  # blue
    _Ink(75, 195, 75, 40),  # green, turquoise
    _Ink(45, 75, 165, 100),  # yellow
    _Ink(345, 15, 190, 60),  # red, orange
    _Ink(245, 345, 215, 60),  # violet, pink
)
_DARK, _DARK_SATURATION = 64, 110
# The edge of ink, where it is mixed with glass, has at least this saturation and the hue of the ink up to this many degrees;
# out of focus it is at most this wide, in pixels of the thumbnail.
_EDGE_SATURATION, _EDGE_HUE, _EDGE_WIDTH = 8, 15, 6
# A hue that most of the coloured area has is a stain, such as light green or alcian blue, unless it is stronger than stains.
_STAIN_SHARE, _STRONGER = 0.8, 160


def find_black(pixels: NDArray[np.uint8]) -> NDArray[np.bool_]:
    """Return where a picture is black padding, with its resampled edge, `(height, width)`.

    Args:
        pixels: uint8 `(height, width, 3)`.
    """
    high, low = extremes(pixels)
    black = high <= _DIGITAL_BLACK
    # Between black and glass lie greys of any brightness.
    return np.asarray(black | (dilate(black) & (high - low <= _GREY)))


def find_marker(
    pixels: NDArray[np.uint8], saturation: NDArray[np.uint8], coloured: NDArray[np.bool_]
) -> NDArray[np.bool_]:
    """Return where a picture is marker ink, `(height, width)`.

    Blue, green, yellow, red and violet inks are stronger in colour than a stain of their hue, or of a hue that no common
    stain has; black ink is dark and grey. Their blurred edges are included.

    Args:
        pixels: Picture with white glass, uint8 `(height, width, 3)`.
        saturation: Its HSV saturation from 0 to 255.
        coloured: Where it is not glass.
    """
    high, _ = extremes(pixels)
    ink = np.asarray((high < _DARK) & (saturation < _DARK_SATURATION) & (high > _DIGITAL_BLACK))
    if not (saturation >= min(item.core for item in _INKS)).any():
        return ink
    every, num_coloured = _Colours.of(pixels, high, saturation, _EDGE_SATURATION), max(1, int(coloured.sum()))
    for item in _INKS:
        core = every.core(item)
        if not len(core):
            continue
        along = _turned(every.hue - item.first)
        if (along <= item.width).sum() > _STAIN_SHARE * num_coloured:
            core = core[every.strength[core] >= _STRONGER]
        if len(core):
            away = _turned(along - np.median(along[core]) + 180) - 180
            ink |= _grow(
                _at(every.numbers[core], high.shape), _at(every.numbers[np.abs(away) <= _EDGE_HUE], high.shape)
            )
    return ink


class _Colours(NamedTuple):
    """Pixels of at least some saturation: their numbers, saturation, hue and brightest channel."""

    numbers: NDArray[np.int64]
    strength: NDArray[np.uint8]
    hue: NDArray[np.float32]
    value: NDArray[np.uint8]

    @classmethod
    def of(
        cls, pixels: NDArray[np.uint8], high: NDArray[np.uint8], saturation: NDArray[np.uint8], least: int
    ) -> "_Colours":
        index = np.flatnonzero(saturation >= least)
        return cls(index, saturation.ravel()[index], hue_of(pixels.reshape(-1, 3)[index]), high.ravel()[index])

    def core(self, ink: _Ink) -> NDArray[np.int64]:
        """Return which of them can be nothing but an ink, unless its hue is a stain of the slide."""
        found = np.flatnonzero((self.strength >= ink.core) & (self.value >= ink.least_value))
        return np.asarray(found[_turned(self.hue[found] - ink.first) <= ink.width])


def _turned(degrees: NDArray[np.float32]) -> NDArray[np.float32]:
    """Change angles between -360 and 720 degrees to 0 to 360, and return them; `%` gives the same and is slow."""
    below, above = degrees < 0, degrees >= 360
    np.add(degrees, 360, out=degrees, where=below)
    return np.subtract(degrees, 360, out=degrees, where=above)


def _at(index: NDArray[np.int64], shape: tuple[int, ...]) -> NDArray[np.bool_]:
    """Return a mask in which the pixels with these numbers are set."""
    mask = np.zeros(shape, bool)
    mask.ravel()[index] = True
    return mask


def _grow(core: NDArray[np.bool_], edge: NDArray[np.bool_]) -> NDArray[np.bool_]:
    """Return the core with the edge that is connected to it, up to the width of an edge."""
    for _ in range(_EDGE_WIDTH):
        grown = core | (dilate(core) & edge)
        if np.array_equal(grown, core):
            break
        core = grown
    return core
