"""Assignment of bags to training, validation and test splits."""

from collections.abc import Sequence

import numpy as np
import pandas as pd

from milpath.records.error_text import counted
from milpath.records.label_table import find_column, quote_first

SPLITS = ("train", "val", "test")


def assign_folds(
    strata: np.ndarray, groups: np.ndarray, shares: Sequence[float], rng: np.random.Generator
) -> np.ndarray:
    """Return a fold for each bag: groups stay together, and every fold gets its share of every stratum.

    Groups are assigned in random order, large ones first, which leaves room to balance them. Each group goes to the
    fold that has the fewest bags of its strata relative to its share; ties go to the fold with the fewest bags, then to
    the first. Without groups, folds of equal shares differ by at most one bag in each stratum.

    Args:
        strata: `(bags, levels)` codes from 0; the first level (such as label and provider together) is balanced before
            the next (such as only the label).
        groups: `(bags,)` codes from 0 of groups that must stay together.
        shares: Relative size of each fold.
        rng: Generator of the random order.

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
        # The fold that would be the emptiest with the group in it.
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


def make_splits(
    bags: pd.DataFrame,
    labels: np.ndarray,
    class_names: Sequence[str],
    *,
    fold: int = 0,
    num_folds: int = 5,
    val_fraction: float | None = None,
    split_seed: int = 0,
    stratify_by: Sequence[str] = (),
    groups: np.ndarray | None = None,
) -> np.ndarray:
    """Return the split of each bag in one fold of a cross-validation.

    Fold `fold` is the test split. The validation split is the next fold, or a share of the remaining bags. Bags are
    assigned from their sorted names with a separate seed, so that the split depends neither on the order of files nor
    on the seed of training; the test folds do not depend on `val_fraction`.

    Args:
        bags: One row per bag: `bag_id` and the columns of `stratify_by`.
        labels: `(bags,)` class indices.
        class_names: Names of the classes, for error messages.
        fold: The fold that is the test split, 0 to `num_folds - 1`.
        num_folds: Number of folds; 1 makes every bag a test bag.
        val_fraction: `None` takes fold + 1 for validation; a number in (0, 1) takes that share of the rest; 0 takes
            none.
        split_seed: Seed of the assignment.
        stratify_by: Columns that are balanced across the folds together with the label.
        groups: `(bags,)` names of groups that must not be in two splits (patients, duplicates); `None` if all bags are
            independent.

    Returns:
        `(bags,)` of "train", "val" and "test".

    Raises:
        ValueError: If a number is out of range, or not every fold can have a bag of every class.
    """
    _check_numbers(fold, num_folds, val_fraction)
    if num_folds == 1:
        return np.full(len(bags), "test", dtype=object)
    order = np.argsort(bags["bag_id"].to_numpy().astype(str), kind="stable")
    strata = _strata(bags, labels, stratify_by)[order]
    codes = _first_codes(np.arange(len(bags)) if groups is None else np.asarray(groups).astype(str)[order])
    if groups is not None:
        _check_groups(labels[order], codes, np.asarray(groups)[order], class_names, num_folds)
    _check_counts(labels, class_names, num_folds)
    test_seed, val_seed = np.random.SeedSequence(split_seed).spawn(2)
    folds = assign_folds(strata, codes, [1.0] * num_folds, np.random.default_rng(test_seed))
    split = np.full(len(bags), "train", dtype=object)
    if val_fraction is None:
        split[folds == (fold + 1) % num_folds] = "val"
    elif val_fraction > 0:
        rest = np.flatnonzero(folds != fold)
        rng = np.random.default_rng(val_seed)
        part = assign_folds(strata[rest], _first_codes(codes[rest]), [val_fraction, 1 - val_fraction], rng)
        split[rest[part == 0]] = "val"
    split[folds == fold] = "test"
    unsorted = np.empty_like(split)
    unsorted[order] = split
    return unsorted


def hold_out_validation(
    bags: pd.DataFrame,
    labels: np.ndarray,
    split: np.ndarray,
    *,
    val_fraction: float | None,
    split_seed: int = 0,
    stratify_by: Sequence[str] = (),
    groups: np.ndarray | None = None,
) -> np.ndarray:
    """Take a validation split from the training bags of a data set that has its own test bags.

    Args:
        bags: As in `make_splits`.
        labels: As in `make_splits`.
        split: `(bags,)` of "train", "val" and "test", as in the data set.
        val_fraction: Share of the training bags; `None` or 0 takes none.
        split_seed: As in `make_splits`.
        stratify_by: As in `make_splits`.
        groups: As in `make_splits`.
    """
    _check_numbers(0, 3, val_fraction)
    if not val_fraction or (split == "val").any():
        return split
    train = np.flatnonzero(split == "train")
    train = train[np.argsort(bags["bag_id"].to_numpy().astype(str)[train], kind="stable")]
    names = np.arange(len(train)) if groups is None else np.asarray(groups).astype(str)[train]
    rng = np.random.default_rng(np.random.SeedSequence(split_seed).spawn(2)[1])
    part = assign_folds(
        _strata(bags, labels, stratify_by)[train], _first_codes(names), [val_fraction, 1 - val_fraction], rng
    )
    result = split.copy()
    result[train[part == 0]] = "val"
    return result


def require_columns(bags: pd.DataFrame, stratify_by: Sequence[str]) -> None:
    """Refuse to stratify by columns that do not exist."""
    missing = [name for name in stratify_by if find_column(bags.columns, name) is None]
    if missing:
        raise ValueError(
            f"data.stratify_by names {missing[0]!r}, which the data do not have; they have {', '.join(bags.columns)}; "
            "name one of these, or set data.stratify_by=[]"
        )


def _strata(bags: pd.DataFrame, labels: np.ndarray, stratify_by: Sequence[str]) -> np.ndarray:
    """Return codes `(bags, 2)`: the label combined with the other columns, and the label only."""
    require_columns(bags, stratify_by)
    names = pd.Series(labels).astype(str)
    for name in stratify_by:
        column = find_column(bags.columns, name)
        # An empty cell is a stratum like any other.
        values = bags[column].astype(object).where(bags[column].notna(), "")
        names = names + "\t" + values.astype(str).reset_index(drop=True)
    return np.stack([_first_codes(np.sort(names.unique()).searchsorted(names)), labels], axis=1)


def _first_codes(names: np.ndarray) -> np.ndarray:
    """Return codes from 0 in the sorted order of the names."""
    return np.unique(names, return_inverse=True)[1].reshape(-1)


def _check_numbers(fold: int, num_folds: int, val_fraction: float | None) -> None:
    """Refuse numbers from which no split can be made."""
    if num_folds < 1:
        raise ValueError(f"data.num_folds is {num_folds}; it must be 1 or more")
    if not 0 <= fold < num_folds:
        raise ValueError(f"data.fold is {fold}; with data.num_folds={num_folds} it must be in 0..{num_folds - 1}")
    if val_fraction is not None and not 0 <= val_fraction < 1:
        raise ValueError(f"data.val_fraction is {val_fraction}; it must be in [0, 1), or null for the next fold")
    if num_folds == 2 and val_fraction is None:
        raise ValueError(
            "data.num_folds=2 leaves no training split besides test and validation; set data.val_fraction=0.2"
        )


def _check_counts(labels: np.ndarray, class_names: Sequence[str], num_folds: int) -> None:
    """Refuse more folds than a class has bags."""
    for number, name in enumerate(class_names):
        count = int((labels == number).sum())
        if 0 < count < num_folds:
            way_out = (
                "a single one cannot be both learnt and tested: check the column of the labels"
                if count == 1
                else f"set data.num_folds={count} or less"
            )
            raise ValueError(
                f"class {name!r} has {counted(count, 'bag')}, fewer than data.num_folds={num_folds}; {way_out}"
            )


def _check_groups(
    labels: np.ndarray, codes: np.ndarray, groups: np.ndarray, class_names: Sequence[str], num_folds: int
) -> None:
    """Refuse groups that contain all bags of a class, or too many of them."""
    if len(np.unique(codes)) < num_folds:
        raise ValueError(
            f"the bags are in {len(np.unique(codes))} groups, fewer than data.num_folds={num_folds}; use fewer folds"
        )
    for number, name in enumerate(class_names):
        own = labels == number
        count = len(np.unique(codes[own]))
        if own.any() and count < num_folds:
            first = quote_first([str(group) for group in dict.fromkeys(groups[own].tolist())])
            raise ValueError(
                f"all {int(own.sum())} bags of class {name!r} are in {count} group(s) ({first}), so "
                f"{num_folds} folds cannot each have one; "
                + (f"set data.num_folds={count} or less" if count > 1 else "split by other groups, or by none")
            )
