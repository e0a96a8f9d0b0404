"""Neighbourhoods of 3 x 3 pixels."""

import numpy as np
from numpy.typing import NDArray


def count_neighbours(mask: NDArray[np.bool_]) -> NDArray[np.uint8]:
    """Return how many of the 3 x 3 pixels around each pixel are set, itself included; none is set beyond the edges.

    Example:
        >>> count_neighbours(np.array([[True, False], [False, False]])).tolist()
        [[1, 1], [1, 1]]
    """
    padded = np.pad(mask, 1).astype(np.uint8)
    rows = padded[:-2] + padded[1:-1] + padded[2:]
    return np.asarray(rows[:, :-2] + rows[:, 1:-1] + rows[:, 2:])


def dilate(mask: NDArray[np.bool_]) -> NDArray[np.bool_]:
    """Return the mask grown by one pixel in all eight directions."""
    return count_neighbours(mask) > 0
