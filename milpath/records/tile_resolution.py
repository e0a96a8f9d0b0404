"""The resolution of tiles, in microns per pixel: how a card states it, and when two are taken for the same."""

import math
from collections.abc import Mapping
from typing import Any

# Tiles whose resolutions differ by at most this factor are taken for equal: scanners of one objective differ by about 10 %.
SAME_RESOLUTION = 1.25
# Value of `mixed_resolution` that accepts any.
ALLOW = "allow"
# Key of a card's `tiling`: the lowest and highest microns per pixel of the tiles of the training.
TRAINED = "trained_microns_per_pixel"


def trained_range(tiling: Mapping[str, Any]) -> tuple[float, float] | None:
    """Return the lowest and highest microns per pixel of the training as a card states them; `None` if unknown."""
    found = tiling.get(TRAINED)
    if isinstance(found, list | tuple) and len(found) == 2:
        low, high = (positive_or_nan(value) for value in found)
        if low <= high:
            return low, high
    asked = positive_or_nan(tiling.get("microns_per_pixel"))
    return None if math.isnan(asked) else (asked, asked)


def differs(microns: float, trained: tuple[float, float]) -> bool:
    """Return whether a resolution lies outside that of the training."""
    return bool(microns * SAME_RESOLUTION < trained[0] or microns > SAME_RESOLUTION * trained[1])


def describe_range(low: float, high: float) -> str:
    """Return a range of resolutions.

    Example:
        >>> describe_range(0.5, 8), describe_range(0.499, 0.4990001)
        ('0.5 to 8', '0.499')
    """
    one, other = f"{low:.3g}", f"{high:.3g}"
    return one if one == other else f"{one} to {other}"


def positive_or_nan(value: Any) -> float:
    """Return a positive finite number, NaN for anything else."""
    if isinstance(value, bool) or not isinstance(value, int | float):
        return float("nan")
    return float(value) if math.isfinite(value) and value > 0 else float("nan")
