"""Deal bags to folds so that every fold looks like the whole."""

from collections.abc import Sequence

import numpy as np


def assign_folds(
    strata: np.ndarray, groups: np.ndarray, shares: Sequence[float], rng: np.random.Generator
) -> np.ndarray:
    """Return a fold for each bag: groups stay whole, and every fold gets its share of every stratum.

    Groups are dealt in random order, large ones first while there is room to balance them. Each goes to the fold that is
    emptiest, relative to its share, in the strata of the group; ties go to the fold with fewest bags, then to the first.
    Without groups, folds of equal shares differ by at most one bag in each stratum.

    Args:
        strata: `(bags, levels)` codes from 0; the first level (say label and provider together) is balanced before the
            next (say the label alone).
        groups: `(bags,)` codes from 0 of what must stay together.
        shares: Relative size of each fold.
        rng: Where the random order comes from.

    Returns:
        `(bags,)` fold numbers.

    Example:
        >>> rng = np.random.default_rng(0)
        >>> folds = assign_folds(np.array([[0], [0], [1], [1]]), np.arange(4), [1, 1], rng)
        >>> sorted(folds[:2].tolist()), sorted(folds[2:].tolist())
        ([0, 1], [0, 1])
    """
    weights = np.asarray(shares, dtype=np.float64)
    num_groups = int(groups.max()) + 1
    members: list[list[int]] = [[] for _ in range(num_groups)]
    for bag, group in enumerate(groups.tolist()):
        members[group].append(bag)
    order = rng.permutation(num_groups)
    order = order[np.argsort([-len(members[group]) for group in order], kind="stable")]
    filled = [np.zeros((int(level.max()) + 1, len(weights))) for level in strata.T]
    sizes = np.zeros(len(weights))
    folds = np.empty(len(groups), dtype=np.int64)
    for group in order.tolist():
        bags = members[group]
        # The fold that would be emptiest once the group is in it.
        keys = [
            sum((counts[code] + 1) / weights for code in strata[bags, level].tolist())
            for level, counts in enumerate(filled)
        ]
        fold = int(np.lexsort([(sizes + len(bags)) / weights, *reversed(keys)])[0])
        for level, counts in enumerate(filled):
            np.add.at(counts[:, fold], strata[bags, level], 1)
        sizes[fold] += len(bags)
        folds[bags] = fold
    return folds
