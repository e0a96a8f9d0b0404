"""How far two rankings of the tiles of a bag agree: Kendall's tau, and the overlap of their top tiles."""

from functools import lru_cache

import numpy as np
from numpy.typing import NDArray
from scipy.stats import hypergeom, kendalltau

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


@lru_cache(maxsize=4096)
def overlap_by_chance(num_tiles: int, num_top: int) -> float:
    """Return the mean Jaccard index of two independent random sets of top tiles.

    The number of shared tiles x is hypergeometric, and the mean is that of x / (2k - x): it is larger than the index of the
    mean x, k^2 / n, most of all for few tiles. Of one top tile it is 1 / n.

    Args:
        num_tiles: Number of tiles n of the bag.
        num_top: Number of top tiles k of each set, from 1 to n.

    Returns:
        In (0, 1].

    Example:
        >>> round(overlap_by_chance(10, 1), 4)
        0.1
        >>> round(overlap_by_chance(100, 10), 4)
        0.0551
    """
    shared = np.arange(max(0, 2 * num_top - num_tiles), num_top + 1)
    chance = hypergeom(num_tiles, num_top, num_top).pmf(shared)
    return float((chance * shared / (2 * num_top - shared)).sum())


def _membership(values: Array, num_top: int) -> Array:
    """Return how far each tile belongs to the top ones, in [0, 1], summing to their number."""
    limit = np.sort(values)[len(values) - num_top]
    above, at = values > limit, values == limit
    return np.asarray(above + at * ((num_top - above.sum()) / at.sum()))
