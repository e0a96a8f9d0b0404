"""Permutation tests of bags that come in groups, and their p-values for several tests at once."""

from collections.abc import Iterator, Sequence

import numpy as np
from numpy.typing import NDArray

Array = NDArray[np.float64]
# Permutations are drawn in chunks of about this many values (16 MB), for any number of bags.
_PORTION = 2_000_000


def permuted(
    values: NDArray[np.generic], groups: NDArray[np.int64] | None, num_permutations: int, seed: int = 0
) -> Iterator[NDArray[np.generic]]:
    """Give the values of bags to other bags, so that bags of one group stay as alike as they are.

    Slides of one patient mostly have the same label. Were single slides permuted, ten slides of a patient would count as
    ten agreements, and chance would look like a finding. If all bags of each group have one value, groups exchange their
    values. Otherwise the groups are put in a random order, with the bags of each in a random order, and the row of their
    values is shifted by a random number of bags and given to the bags, sorted by group: neighbours mostly stay neighbours.

    Args:
        values: `(bags,)`.
        groups: `(bags,)` codes from 0 of groups; `None` permutes single bags.
        num_permutations: Number of permutations.
        seed: Seed.

    Yields:
        `(permutations of this chunk, bags)`.
    """
    generator = np.random.default_rng(seed)
    num_bags = len(values)
    portion = max(1, _PORTION // max(1, num_bags))
    if groups is None:
        groups = np.arange(num_bags)
    order = np.argsort(groups, kind="stable")
    sizes = np.bincount(groups)
    starts = np.cumsum(sizes) - sizes
    ordered = values[order]
    alike = all(
        np.all(ordered[start : start + size] == ordered[start]) for start, size in zip(starts, sizes, strict=True)
    )
    for first in range(0, num_permutations, portion):
        count = min(portion, num_permutations - first)
        drawn = np.argsort(generator.random((count, len(sizes))), axis=1)
        if alike:
            yield ordered[starts][drawn][:, groups]
            continue
        # The place of each group in the random order, with a fraction that shuffles its bags.
        places = np.argsort(drawn, axis=1)[:, groups[order]] + generator.random((count, num_bags))
        shuffled = ordered[np.argsort(places, axis=1)]
        shift = generator.integers(num_bags, size=(count, 1))
        rows = np.empty((count, num_bags), dtype=values.dtype)
        rows[:, order] = np.take_along_axis(shuffled, (np.arange(num_bags) + shift) % num_bags, axis=1)
        yield rows


def p_value(observed: float, null: Array) -> float:
    """Return the share of permutations, the observed one among them, that are at least as large as the observed value.

    It is never 0, and at most the level `a` with probability `a` if there is nothing to find.

    Args:
        observed: Value on the bags as they are.
        null: `(permutations,)`.

    References:
        Phipson, Smyth. Permutation p-values should never be zero. Stat Appl Genet Mol Biol 9, 2010.

    Example:
        >>> p_value(0.9, np.linspace(0, 0.8, 99))
        0.01
    """
    # Sums in another order may differ in their last digits.
    return float((1 + np.count_nonzero(null >= observed - 1e-12)) / (1 + len(null)))


def holm(p_values: Sequence[float]) -> list[float]:
    """Return p-values adjusted for their number: among all that are below `a`, one is wrong with at most probability `a`.

    References:
        Holm. A simple sequentially rejective multiple test procedure. Scand J Statist 6, 1979.

    Example:
        >>> [round(p, 3) for p in holm([0.01, 0.04, 0.03])]
        [0.03, 0.06, 0.06]
    """
    order = np.argsort(p_values, kind="stable")
    adjusted = np.empty(len(p_values))
    largest = 0.0
    for rank, place in enumerate(order):
        largest = max(largest, min(1.0, (len(p_values) - rank) * p_values[place]))
        adjusted[place] = largest
    return adjusted.tolist()


def group_codes(groups: NDArray[np.str_] | None) -> NDArray[np.int64] | None:
    """Return codes from 0 of the names of groups."""
    return None if groups is None else np.unique(groups, return_inverse=True)[1].reshape(-1).astype(np.int64)
