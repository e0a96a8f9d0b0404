"""Map of a slide: which parts are tissue, marker ink, black padding and glass."""

from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from milpath.slides.detection.glass import glass_colour, whiten_glass
from milpath.slides.detection.marker import find_black, find_marker
from milpath.slides.detection.neighbours import count_neighbours
from milpath.slides.detection.saturation import extremes, otsu_threshold, saturation
from milpath.slides.readers.rgb import WHITE

# The detection of milpath 0.1.0, for stores and networks that were made with it.
OTSU = "otsu"
# Range of the automatic threshold: JPEG noise and dust stay below the first value, fat and pale stroma are above it; the
# glass of a noisy scanner stays below the second.
_LEAST, _LARGEST = 8, 20
# The threshold is this many robust standard deviations above the median of the glass.
_DEVIATIONS = 4
# Pixels whose channels are at most this much darker than the glass are taken for glass when its noise is measured.
_NEAR_GLASS = 10
# With less of the slide than this, the noise is not measured.
_LEAST_GLASS = 0.005
# Without a larger saturation anywhere there is no tissue, in milpath 0.1.0.
_LEAST_OTSU = 15
_FOLDED = 1.8
# Of the 3 x 3 pixels around a pixel that is barely coloured at least these must be coloured.
_NEIGHBOURS = 4


class TissueMap(NamedTuple):
    """Map of a slide.

    Attributes:
        tissue: Where tissue is, `(height, width)`.
        marker: Where marker ink is.
        black: Where the slide is padded with black.
        dense: Where tissue has at least 1.8 times the median optical density of the tissue: folds, clots, dense cells.
        saturation: HSV saturation from 0 to 255 after the tint of the glass was removed, uint8 `(height, width)`.
        step: Pixels of the view per pixel of the map, across and down.
    """

    tissue: NDArray[np.bool_]
    marker: NDArray[np.bool_]
    black: NDArray[np.bool_]
    dense: NDArray[np.bool_]
    saturation: NDArray[np.uint8]
    step: tuple[float, float]


def map_tissue(
    pixels: NDArray[np.uint8], threshold: float | str | None = None, step: tuple[float, float] = (1.0, 1.0)
) -> TissueMap:
    """Return the map of a thumbnail.

    The colour of the glass is estimated and removed. Tissue has a saturation above the threshold and is neither marker ink
    nor black. The automatic threshold depends on the noise of the glass only, so that a strong colour on the slide (ink, a
    brown immunostain) does not hide pale tissue.

    Args:
        pixels: Thumbnail, uint8 `(height, width, 3)`.
        threshold: Saturation from 0 to 255 above which a pixel is tissue; `None` chooses it from the noise of the glass
            (8 to 20). "otsu" is the detection of milpath 0.1.0: Otsu's threshold of the saturation, at least 15, without
            removing the tint of the glass or the ink.
        step: Pixels of the view per pixel of the thumbnail, across and down.
    """
    none = np.zeros(pixels.shape[:2], bool)
    if threshold == OTSU:
        colour = saturation(pixels)
        tissue = colour > max(otsu_threshold(colour), _LEAST_OTSU)
        return TissueMap(tissue, none, none, find_dense(pixels, tissue), colour, step)
    black = find_black(pixels)
    white = whiten_glass(pixels, glass_colour(pixels))
    colour = saturation(white)
    least = automatic_threshold(white, colour) if threshold is None else float(threshold)
    coloured = colour > least
    marker = find_marker(white, colour, coloured)
    tissue = coloured & ~marker & ~black
    if threshold is None:
        # Single pixels of compression noise and dust.
        tissue &= (colour > 3 * least) | (count_neighbours(tissue) >= _NEIGHBOURS)
    return TissueMap(tissue, marker & ~black, black, find_dense(white, tissue), colour, step)


def find_dense(white: NDArray[np.uint8], tissue: NDArray[np.bool_]) -> NDArray[np.bool_]:
    """Return where tissue is much denser than most of it: two layers absorb twice as much as one (Beer and Lambert).

    Args:
        white: Picture with white glass, uint8 `(height, width, 3)`.
        tissue: Where tissue is.
    """
    found = np.zeros(tissue.shape, bool)
    if tissue.any():
        density = np.log((WHITE + 1) / (white[tissue] @ np.full(3, 1 / 3, np.float32) + 1))
        found[tissue] = density >= _FOLDED * np.median(density)
    return found


def automatic_threshold(white: NDArray[np.uint8], colour: NDArray[np.uint8]) -> float:
    """Return a saturation above the noise of the glass, between 8 and 20.

    It lies 4 robust standard deviations (1.4826 times the median absolute deviation) above the median of the glass.

    Args:
        white: Picture with white glass, uint8 `(height, width, 3)`.
        colour: Its saturation from 0 to 255.
    """
    _, low = extremes(white)
    bright = low >= WHITE - _NEAR_GLASS
    # Surrounded by glass: the soft edge of tissue is not noise. Exact white was not scanned.
    glass = colour[(count_neighbours(bright) == 9) & (low < WHITE)]
    if glass.size < _LEAST_GLASS * colour.size:
        return float(_LEAST)
    middle = float(np.median(glass))
    away = np.subtract(glass, middle, dtype=np.float32)
    spread = 1.4826 * float(np.median(np.abs(away, out=away)))
    return min(max(middle + _DEVIATIONS * spread, _LEAST), _LARGEST)
