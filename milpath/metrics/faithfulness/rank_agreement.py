"""How far two rankings of the tiles of a bag agree: Kendall's tau, and the overlap of their top tiles."""

import numpy as np
from numpy.typing import NDArray
from scipy.stats import kendalltau

Array = NDArray[np.float64]


def kendall(first: Array, second: Array) -> float:
    """Return Kendall's tau-b: concordant minus discordant pairs, over the pairs without ties.

    Args:
        first: `(tiles,)`.
        second: `(tiles,)`.

    Returns:
        In [-1, 1]; NaN if one of them is constant.

    References:
        Kendall. The treatment of ties in ranking problems. Biometrika 33, 1945.

    Example:
        >>> round(kendall(np.array([1.0, 2.0, 3.0]), np.array([1.0, 3.0, 2.0])), 3)
        0.333
    """
    return float(kendalltau(first, second).statistic)


def top_overlap(first: Array, second: Array, num_top: int) -> float:
    """Return the Jaccard index of the top tiles of two rankings, `|A and B| / |A or B|`.

    Where equal values straddle the limit, each of them counts by the share of them that fits: the result does not depend on
    the order of the tiles.

    Args:
        first: `(tiles,)`, higher is first.
        second: `(tiles,)`.
        num_top: Number of top tiles, from 1 to all of them.

    Returns:
        In [0, 1].

    Example:
        >>> top_overlap(np.array([0.9, 0.8, 0.1]), np.array([0.9, 0.1, 0.8]), 2)
        0.3333333333333333
    """
    chosen = [_membership(values, num_top) for values in (first, second)]
    return float(np.minimum(*chosen).sum() / np.maximum(*chosen).sum())


def overlap_by_chance(num_tiles: int, num_top: int) -> float:
    """Return the Jaccard index of two random sets of top tiles with the expected number of shared tiles, k^2 / n.

    Example:
        >>> round(overlap_by_chance(100, 10), 4)
        0.0526
    """
    shared = num_top * num_top / num_tiles
    return shared / (2 * num_top - shared)


def _membership(values: Array, num_top: int) -> Array:
    """Return how far each tile belongs to the top ones, in [0, 1], summing to their number."""
    limit = np.sort(values)[len(values) - num_top]
    above, at = values > limit, values == limit
    return np.asarray(above + at * ((num_top - above.sum()) / at.sum()))
