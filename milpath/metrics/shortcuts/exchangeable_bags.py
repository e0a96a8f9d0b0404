"""Permutations of a column of bags that leave alone what bags of one patient, and of one class, share."""

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from milpath.metrics.shortcuts.permutation import permuted

Codes = NDArray[np.int64]
# Two values can be given to six groups in 20 ways: with fewer no permutation test can reach p = 0.05.
_LEAST_GROUPS = 6


@dataclass(frozen=True)
class PermutedColumn:
    """Permuted values of a column, and how they were permuted.

    Attributes:
        rows: `(permutations, bags)` codes of values.
        how: In words, such as "values permuted within classes and by group".
    """

    rows: Codes
    how: str


def permuted_column(
    codes: Codes,
    kinds: Codes,
    groups: Codes | None,
    num_permutations: int,
    seed: int = 0,
    title: str = "classes",
) -> PermutedColumn:
    """Permute the values of a column so that nothing changes if results do not depend on it.

    Bags of a patient resemble each other, those of another class as well. So patients with one value each exchange them as
    a whole: all bags of a patient, of whatever class, get the value of one other patient. They do so among patients with
    bags of the same class; of patients with several classes, among those that have the same ones in similar shares (each
    share in the same third). This needs enough patients that are alike: if fewer than half of them are in sets of six or
    more, the sets are made larger: first without regard to the shares, then of all patients with several classes, and at
    last of all patients. With fewer than six, no difference between two values could be significant. The choice depends
    on the classes and not on results or on who has which value, so that it does not bias the test.

    A patient with several values keeps them. They are permuted among the patient's bags of one class, and exchanged with
    those of patients that have several values, too, and as many bags of each class.

    Args:
        codes: `(bags,)` codes of the values, from 0.
        kinds: `(bags,)` class of each bag, or another kind that may only get the values of its own kind; >= 0.
        groups: `(bags,)` codes from 0 of patients; `None` permutes single bags within each kind.
        num_permutations: Number of permutations.
        seed: Seed.
        title: What the kinds are, in words.

    References:
        Winkler et al. Multi-level block permutation. NeuroImage 123, 2015 (whole blocks, within blocks, and both).
    """
    rows = np.tile(codes, (num_permutations, 1))
    several_kinds = len(np.unique(kinds)) > 1
    within = f" within {title}" if several_kinds else ""
    if groups is None:
        _exchange(rows, codes, kinds, np.arange(len(codes)), seed)
        return PermutedColumn(rows, f"values permuted{within}")
    num_values = np.bincount(np.unique(np.stack([groups, codes]), axis=1)[0])
    varied = (num_values > 1)[groups]
    words = []
    if not varied.all():
        same = np.flatnonzero(~varied)
        own = np.unique(groups[same], return_inverse=True)[1].reshape(-1).astype(np.int64)
        strata, alike = _strata(kinds[same], own)
        part = rows[:, same]
        _exchange(part, codes[same], strata[own], own, seed)
        rows[:, same] = part
        if alike == _ONE_KIND:
            words.append(f"{within} and by group" if several_kinds else " by group")
        else:
            words.append(f" over whole groups{alike.format(title=title)}")
    if varied.any():
        several = np.flatnonzero(varied)
        rows[:, several] = _within_groups(codes[several], kinds[several], groups[several], num_permutations, seed)
        inside = f" within groups{f' and {title}' if several_kinds else ''}"
        words.append(inside if not words else f"{inside} where a group has several")
    return PermutedColumn(rows, f"values permuted{', and'.join(words)}")


def _exchange(rows: Codes, codes: Codes, strata: Codes, groups: Codes, seed: int) -> None:
    """Fill the permuted values in: groups of one value each exchange them within strata of whole groups."""
    for stratum in np.unique(strata):
        own = np.flatnonzero(strata == stratum)
        inside = np.unique(groups[own], return_inverse=True)[1].reshape(-1).astype(np.int64)
        drawn = permuted(codes[own], inside, len(rows), seed + int(stratum))
        rows[:, own] = np.concatenate([chunk.astype(np.int64) for chunk in drawn])


_ONE_KIND = "one kind"


def _strata(kinds: Codes, groups: Codes) -> tuple[Codes, str]:
    """Return which groups may exchange values, `(groups,)`, and what those have in common, in words."""
    counts = np.zeros((int(groups.max()) + 1, int(kinds.max()) + 1))
    np.add.at(counts, (groups, kinds), 1)
    single = (counts > 0).sum(axis=1) == 1
    if single.all():
        return counts.argmax(axis=1).astype(np.int64), _ONE_KIND
    has, own_kind = counts > 0, np.where(single, counts.argmax(axis=1), -1)
    thirds = np.minimum(np.floor(3 * counts / counts.sum(axis=1, keepdims=True) + 1e-9), 2)
    choices = (
        (np.concatenate([has, thirds], axis=1), " with similar shares of {title}"),
        (has, " with the same {title}"),
        (own_kind[:, None], " with bags of one, or of several {title}"),
        (np.zeros((len(counts), 1)), " of any {title}"),
    )
    for properties, alike in choices:
        strata = np.unique(properties, axis=0, return_inverse=True)[1].reshape(-1).astype(np.int64)
        if 2 * (np.bincount(strata)[strata] >= _LEAST_GROUPS).sum() >= len(counts):
            return strata, alike
    # So few groups are no more in any other sets.
    return np.unique(choices[0][0], axis=0, return_inverse=True)[1].reshape(-1).astype(np.int64), choices[0][1]


def _within_groups(codes: Codes, kinds: Codes, groups: Codes, num_permutations: int, seed: int) -> Codes:
    """Return `(permutations, bags)` values, exchanged between groups of equal counts and shuffled within group and kind."""
    generator = np.random.default_rng([seed, 1])
    order = np.lexsort((kinds, groups))
    rows = np.empty((num_permutations, len(codes)), dtype=np.int64)
    alike: dict[tuple[int, ...], list[Codes]] = {}
    for places in np.split(order, np.flatnonzero(np.diff(groups[order])) + 1):
        alike.setdefault(tuple(kinds[places].tolist()), []).append(places)
    for own in alike.values():
        blocks = np.stack(own)
        drawn = np.argsort(generator.random((num_permutations, len(blocks))), axis=1)
        rows[:, blocks] = codes[blocks][drawn]
    ordered = rows[:, order]
    cells = np.cumsum(np.append(0, (np.diff(groups[order]) != 0) | (np.diff(kinds[order]) != 0)))
    shuffled = np.argsort(cells + generator.random(ordered.shape), axis=1)
    rows[:, order] = np.take_along_axis(ordered, shuffled, axis=1)
    return rows
