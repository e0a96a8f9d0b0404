"""Neighbourhoods of 3 x 3 pixels."""

import numpy as np
from numpy.typing import NDArray


def count_neighbours(mask: NDArray[np.bool_]) -> NDArray[np.uint8]:
    """Return how many of the 3 x 3 pixels around each pixel are set, itself included; none is set beyond the edges.

    Example:
        >>> count_neighbours(np.array([[True, False], [False, False]])).tolist()
        [[1, 1], [1, 1]]
    """
    one = mask.astype(np.uint8)
    rows = one.copy()
    rows[1:] += one[:-1]
    rows[:-1] += one[1:]
    counts = rows.copy()
    counts[:, 1:] += rows[:, :-1]
    counts[:, :-1] += rows[:, 1:]
    return counts


def dilate(mask: NDArray[np.bool_]) -> NDArray[np.bool_]:
    """Return the mask grown by one pixel in all eight directions."""
    rows = mask.copy()
    rows[1:] |= mask[:-1]
    rows[:-1] |= mask[1:]
    grown = rows.copy()
    grown[:, 1:] |= rows[:, :-1]
    grown[:, :-1] |= rows[:, 1:]
    return grown
