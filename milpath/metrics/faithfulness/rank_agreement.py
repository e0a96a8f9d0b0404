"""How far two rankings of the tiles of a bag agree: rank correlations, and the overlap of their top tiles."""

import numpy as np
from numpy.typing import NDArray

Array = NDArray[np.float64]
# Below this length pairs are counted one by one.
_SHORT = 64


def spearman(first: Array, second: Array) -> float:
    """Return Spearman's rank correlation, with mean ranks of equal values.

    Args:
        first: `(tiles,)`.
        second: `(tiles,)`.

    Returns:
        In [-1, 1]; NaN if one of them is constant.

    Example:
        >>> round(spearman(np.array([1.0, 2.0, 3.0]), np.array([1.0, 3.0, 2.0])), 3)
        0.5
    """
    ranks = [_mean_ranks(values) for values in (first, second)]
    centred = [each - each.mean() for each in ranks]
    scale = np.sqrt((centred[0] ** 2).sum() * (centred[1] ** 2).sum())
    return float(centred[0] @ centred[1] / scale) if scale > 0 else float("nan")


def kendall(first: Array, second: Array) -> float:
    """Return Kendall's tau-b: concordant minus discordant pairs, over the pairs without ties.

    `tau_b = (P - Q) / sqrt((n_0 - n_1) (n_0 - n_2))` with n_0 pairs, of which n_1 and n_2 are tied in one ranking.

    Args:
        first: `(tiles,)`.
        second: `(tiles,)`.

    Returns:
        In [-1, 1]; NaN if one of them is constant.

    References:
        Kendall. The treatment of ties in ranking problems. Biometrika 33, 1945. Knight. A computer method for calculating
        Kendall's tau with ungrouped data. JASA 61, 1966 (counting by sorting).

    Example:
        >>> round(kendall(np.array([1.0, 2.0, 3.0]), np.array([1.0, 3.0, 2.0])), 3)
        0.333
    """
    order = np.lexsort((second, first))
    ordered, values = first[order], second[order]
    pairs = len(first) * (len(first) - 1) // 2
    tied = [_tied_pairs(each) for each in (first, second)]
    both = _tied_pairs(np.unique(np.stack([ordered, values], axis=1), axis=0, return_inverse=True)[1].reshape(-1))
    scale = float(pairs - tied[0]) * float(pairs - tied[1])
    if scale <= 0:
        return float("nan")
    # Within ties of the first ranking the second ascends, so that they hold no inversion.
    concordant_minus_discordant = pairs - tied[0] - tied[1] + both - 2 * _inversions(values)
    return float(concordant_minus_discordant / np.sqrt(scale))


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


def _mean_ranks(values: Array) -> Array:
    """Return the rank of each value, the mean rank of equal ones."""
    _, place, counts = np.unique(values, return_inverse=True, return_counts=True)
    ranks: Array = (np.cumsum(counts) - (counts - 1) / 2)[place.reshape(-1)]
    return ranks


def _tied_pairs(values: NDArray[np.generic]) -> int:
    """Return the number of pairs of equal values."""
    counts = np.unique(values, return_counts=True)[1].astype(np.int64)
    return int((counts * (counts - 1) // 2).sum())


def _inversions(values: Array) -> int:
    """Return the number of pairs in which the earlier value is greater; halves are counted by sorting."""
    if len(values) <= _SHORT:
        return int(np.triu(values[:, None] > values[None, :], 1).sum())
    middle = len(values) // 2
    left, right = values[:middle], values[middle:]
    across = len(left) * len(right) - int(np.searchsorted(np.sort(left), right, side="right").sum())
    return _inversions(left) + _inversions(right) + across


def _membership(values: Array, num_top: int) -> Array:
    """Return how far each tile belongs to the top ones, in [0, 1], summing to their number."""
    limit = np.sort(values)[len(values) - num_top]
    above, at = values > limit, values == limit
    return np.asarray(above + at * ((num_top - above.sum()) / at.sum()))
