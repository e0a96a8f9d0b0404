"""Measure of blur in tiles."""

import numpy as np
from numpy.typing import NDArray

# Width of the mean that blurs a tile once more, in pixels.
_WIDTH = 11


def blur_of(tile: NDArray[np.uint8]) -> float:
    """Return how blurred a tile is, from 0 (sharp) to 1; NaN if it has one colour.

    A mean over 11 pixels takes contrast between neighbours from a sharp picture and little from a blurred one. The result
    is the share of the contrast that remains, in the direction in which more remains.

    Args:
        tile: uint8 `(height, width, 3)`.

    References:
        Crete, Dolmiere, Ladret and Nicolas. The blur effect: perception and estimation with a new no-reference perceptual
        blur metric. SPIE Electronic Imaging, 2007, equations 1 to 6.
    """
    grey = tile.astype(np.float32) @ np.array([0.2125, 0.7154, 0.0721], np.float32)
    shares = []
    for values in (grey, grey.T):
        sums = np.cumsum(_mirrored(values), axis=1)
        smooth = (sums[:, _WIDTH:] - sums[:, :-_WIDTH]) / _WIDTH
        before, after = np.abs(np.diff(values, axis=1)), np.abs(np.diff(smooth, axis=1))
        total = float(before.sum())
        if total == 0:
            return float("nan")
        shares.append(1 - float(np.maximum(before - after, 0).sum()) / total)
    return max(shares)


def _mirrored(values: NDArray[np.float32]) -> NDArray[np.float64]:
    """Return rows with their mirror image beyond both ends, as wide as the mean needs."""
    before, after, width = _WIDTH // 2 + 1, _WIDTH // 2, values.shape[1]
    if width < before:
        return np.pad(values, ((0, 0), (before, after)), mode="symmetric").astype(np.float64)
    # Quicker than `pad`, in the same order of memory, which decides the last bit of a sum.
    padded = np.empty((len(values), before + width + after), order="F" if values.flags.fnc else "C")
    padded[:, before : before + width] = values
    padded[:, :before] = values[:, before - 1 :: -1]
    padded[:, before + width :] = values[:, : width - after - 1 : -1]
    return padded
