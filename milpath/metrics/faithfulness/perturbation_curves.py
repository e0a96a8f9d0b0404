"""Curves of what a network says while tiles are removed from a bag, or put back, in some order."""

from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

from milpath.metrics.intervals import Interval, bootstrap_interval, percentile_interval, resample_weights

Array = NDArray[np.float64]

# Shares of the tiles of a bag: those removed from it, and those an empty bag is filled with again.
NUM_STEPS = 20
REMOVED = np.arange(NUM_STEPS) / NUM_STEPS
KEPT = np.arange(1, NUM_STEPS + 1) / NUM_STEPS


def num_of_share(share: float | Array, num_tiles: int) -> NDArray[np.int64]:
    """Return the number of tiles that a share of a bag is: rounded up, at least 1, 0 for a share of 0.

    Example:
        >>> num_of_share(np.array([0.0, 0.05, 0.1, 0.95]), 12).tolist()
        [0, 1, 2, 12]
    """
    return np.ceil(np.asarray(share) * num_tiles - 1e-9).astype(np.int64)


def num_removed(num_tiles: int) -> NDArray[np.int64]:
    """Return how many tiles are removed at each of `REMOVED`, `(steps,)`; one tile always stays, an empty bag is no bag.

    Rounded up, so that the top share of a short bag is a tile and not none.
    """
    return np.minimum(num_of_share(REMOVED, num_tiles), num_tiles - 1)


def num_kept(num_tiles: int) -> NDArray[np.int64]:
    """Return how many tiles are in the bag at each of `KEPT`, `(steps,)`: as many as stay where the rest is removed.

    `KEPT` is `1 - REMOVED` in reverse. Both curves thus see parts of the same sizes, and the area between those of random
    orders is 0 on average in bags of any length.

    Example:
        >>> (num_kept(5) + num_removed(5)[::-1]).tolist() == [5] * NUM_STEPS
        True
    """
    return np.asarray(num_tiles - num_removed(num_tiles)[::-1], dtype=np.int64)


def area(curves: Array) -> Array:
    """Return the mean height of curves over equal steps, `(...)`: their area by the trapezoidal rule over a width of 1.

    Args:
        curves: `(..., steps)`.

    Example:
        >>> float(area(np.array([1.0, 0.5, 0.0])))
        0.5
    """
    return np.asarray((curves[..., 1:] + curves[..., :-1]).mean(axis=-1) / 2)


def value_at(share: float, curves: Array, shares: Array) -> Array:
    """Return the height of curves at a share of tiles, `(...)`, on the straight line between two steps.

    Args:
        share: Within the range of `shares`.
        curves: `(..., steps)`.
        shares: `(steps,)`, ascending.
    """
    right = int(np.clip(np.searchsorted(shares, share - 1e-12), 1, len(shares) - 1))
    part = (share - shares[right - 1]) / (shares[right] - shares[right - 1])
    return np.asarray(curves[..., right - 1] * (1 - part) + curves[..., right] * part)


def mean_intervals(
    values: Array,
    groups: NDArray[np.str_] | None = None,
    num_resamples: int = 1000,
    confidence: float = 0.95,
    seed: int = 0,
) -> list[Interval]:
    """Return the mean over bags of each column with its bootstrap interval, all on the same resamples.

    Args:
        values: `(bags, columns)`; a column is the mean of those of its values that are not NaN.
        groups: `(bags,)` groups that are drawn together, such as patients; `None` draws bags.
        num_resamples: Number of resamples.
        confidence: Confidence level in (0, 1).
        seed: Seed of the resamples.

    Returns:
        One interval per column, without a value where no bag has one.

    Example:
        >>> first, second = mean_intervals(np.array([[0.0, 1.0], [1.0, np.nan], [2.0, 3.0]]))
        >>> first.value, second.value
        (1.0, 2.0)
    """
    known = np.isfinite(values)
    filled, counted = np.where(known, values, 0.0), known.astype(np.float64)
    drawn = []
    for weights in resample_weights(len(values), groups, num_resamples, seed):
        with np.errstate(invalid="ignore", divide="ignore"):
            drawn.append((weights @ filled) / (weights @ counted))
    resampled = np.concatenate(drawn)
    with np.errstate(invalid="ignore", divide="ignore"):
        means = filled.sum(axis=0) / counted.sum(axis=0)
    return [
        percentile_interval(float(mean), column, confidence) for mean, column in zip(means, resampled.T, strict=True)
    ]


def ratio_interval(
    above: Array, below: Array, groups: NDArray[np.str_] | None = None, num_resamples: int = 1000
) -> Interval:
    """Return the ratio of the means of two values of the same bags, with its 95 % bootstrap interval.

    It has no value where the lower mean is not above 0, and no interval where that is so in most resamples.

    Args:
        above: `(bags,)`; bags where one of the two values is NaN are left out.
        below: `(bags,)`.
        groups: `(bags,)` groups that are drawn together, such as patients; `None` draws bags.
        num_resamples: Number of resamples, which are those of `mean_intervals`.

    Example:
        >>> ratio_interval(np.array([1.0, 1.0, 1.0]), np.array([1.0, 2.0, 3.0])).value
        0.5
    """
    known = np.isfinite(above) & np.isfinite(below)
    pair = np.where(known[:, None], np.stack([above, below], axis=1), 0.0)

    def ratio(weights: Array | None) -> Array:
        sums = pair.sum(axis=0) if weights is None else weights @ pair
        with np.errstate(invalid="ignore", divide="ignore"):
            return np.asarray(np.where(sums[..., 1] > 0, sums[..., 0] / sums[..., 1], np.nan))

    return bootstrap_interval(ratio, len(pair), groups, num_resamples)


def mean_over_orders(curves: Sequence[Array]) -> Array:
    """Return the mean curve of several orders of one bag, such as random ones, `(steps,)`."""
    return np.asarray(np.mean(np.stack(curves), axis=0))
