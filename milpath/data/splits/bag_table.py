"""Table of the bags of a store with their labels and splits."""

import logging
from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass

import numpy as np
import pandas as pd

from milpath.data.splits.assign_splits import SPLITS, hold_out_validation, make_splits
from milpath.data.splits.bag_lists import bag_groups, excluded_bags, read_split
from milpath.data.splits.label_matching import ON_MISMATCH
from milpath.records.label_table import find_column, require_column, rows_of
from milpath.targets import NumericTarget
from milpath.targets.columns.class_words import missing_cells
from milpath.targets.columns.label_columns import bag_labels, bag_numbers, columns_read, default_column

_log = logging.getLogger(__name__)


@dataclass(frozen=True)
class SplitOptions:
    """Options of the split; see `BagDataModule` for their meaning."""

    fold: int = 0
    num_folds: int = 5
    val_fraction: float | None = None
    split_seed: int = 0
    splits: str | None = None
    group_column: str | None = None
    groups: str | None = None
    stratify_by: Sequence[str] = ()
    exclude: Sequence[str] = ()
    max_bags: int | None = None
    max_bags_per_class: int | None = None
    split_column: str | None = None
    label_column: str | Mapping[str, str] | None = None
    on_missing_label: str = "error"

    def __post_init__(self) -> None:
        if self.on_missing_label not in ON_MISMATCH:
            raise ValueError(
                f"data.on_missing_label is {self.on_missing_label!r}; it must be one of {', '.join(ON_MISMATCH)}"
            )


def label_and_split(
    bags: pd.DataFrame,
    target: str,
    class_names: Sequence[str] | None,
    options: SplitOptions,
    left_out: Collection[str] | None = None,
    trained_names: Sequence[str] | None = None,
    numbers: NumericTarget | None = None,
) -> tuple[pd.DataFrame, tuple[str, ...]]:
    """Return the table of the bags to use, with `index` (position in the store), `label`, `split`, and the class names.

    Args:
        bags: The table of a store.
        target: As in `bag_labels`.
        class_names: As in `bag_labels`.
        options: How to split.
        left_out: The excluded bags if they are not in the store; `None` if they are.
        trained_names: As in `bag_labels`.
        numbers: The target, if it has no classes; the label of a bag is then a tuple of numbers.

    Raises:
        ValueError: If labels, groups or splits are invalid.
    """
    all_ids = bags["bag_id"].tolist()
    excluded = excluded_bags(options.exclude, all_ids) if left_out is None else set(left_out)
    known_names = class_names or trained_names or ()
    positions = usable_bags(bags, excluded, target, options, known_names, numbers)
    values: np.ndarray | None = None
    if numbers is None:
        labels, names = bag_labels(
            bags.iloc[positions], target, class_names, column=options.label_column, trained_names=trained_names
        )
        strata_names: Sequence[str] = names
    else:
        values, named = bag_numbers(
            bags.iloc[positions], numbers, options.label_column, default_column(target), class_names
        )
        names, labels, strata_names = named.names, named.strata(values), named.strata_names
    kept = np.sort(_draw(bags.iloc[positions], labels, options))
    positions, labels = positions[kept], labels[kept]
    # The columns of the user stay as they are until the split is made: one may be called index, label or split.
    table = bags.iloc[positions].reset_index(drop=True)
    known = ({*all_ids} | excluded) - set(table["bag_id"])
    groups = bag_groups(table, options.group_column, options.groups, known)
    if options.splits or options.split_column:
        if options.num_folds not in (1, SplitOptions.num_folds):
            where = options.splits or f"column {options.split_column!r}"
            _log.info("data.num_folds=%s changes nothing: the split is in %s", options.num_folds, where)
        if options.splits:
            given = read_split(options.splits, table["bag_id"].to_numpy(), fold=options.fold, known=known)
        else:
            given = _own_split(table, str(options.split_column))
            if options.fold:
                _log.warning(
                    "data.fold=%s changes nothing: the split is in column %r", options.fold, options.split_column
                )
        split = hold_out_validation(
            table, labels, given, val_fraction=options.val_fraction, split_seed=options.split_seed,
            stratify_by=options.stratify_by, groups=groups,
        )  # fmt: skip
    else:
        _say_unused_split(table)
        split = make_splits(
            table, labels, strata_names,
            fold=options.fold, num_folds=options.num_folds, val_fraction=options.val_fraction,
            split_seed=options.split_seed, stratify_by=options.stratify_by, groups=groups,
        )  # fmt: skip
    if groups is not None:
        _require_whole_groups(
            table["bag_id"].tolist(), split, groups, options.splits or f"column {options.split_column!r} of the data"
        )
    shown = labels if values is None else pd.Series(list(map(tuple, values[kept].tolist())), dtype=object)
    table = table.assign(index=positions, label=shown, split=split)
    return table[table["split"] != ""].reset_index(drop=True), names


def warn_of_one_class(table: pd.DataFrame, class_names: Sequence[str]) -> None:
    """Warn about splits in which AUROC will be undefined."""
    for split in SPLITS:
        classes = table.loc[table["split"] == split, "label"].unique()
        if len(classes) == 1:
            _log.warning(
                "split %r has bags of only one class (%r): %s/auroc is undefined there",
                split,
                class_names[classes[0]],
                split,
            )


def require_two_classes(table: pd.DataFrame, class_names: Sequence[str]) -> None:
    """Refuse to train on bags of a single class.

    Raises:
        ValueError: If the training split has only one class.
    """
    classes = table.loc[table["split"] == "train", "label"].unique()
    if len(classes) < 2:
        raise ValueError(
            f"the training split has bags of only one class ({class_names[classes[0]]!r}), but training needs two; "
            "check data.labels, data.target and data.splits"
        )


def _draw(table: pd.DataFrame, labels: np.ndarray, options: SplitOptions) -> np.ndarray:
    """Return the positions of the bags within the limits, drawn from sorted names with the seed of the split."""
    order = np.argsort(table["bag_id"].to_numpy().astype(str), kind="stable")
    order = np.random.default_rng([options.split_seed, 1]).permutation(order)
    for limit, name in ((options.max_bags, "max_bags"), (options.max_bags_per_class, "max_bags_per_class")):
        if limit is not None and limit < 1:
            raise ValueError(f"data.{name} is {limit}; it must be 1 or more, or null for all bags")
    if options.max_bags_per_class is not None:
        limit = options.max_bags_per_class
        order = np.concatenate([order[labels[order] == number][:limit] for number in np.unique(labels)])
    if options.max_bags is not None and options.max_bags < len(order):
        # One bag of each class in turn, more often from frequent classes, so that the class shares stay the same.
        rank = np.empty(len(order))
        for number in np.unique(labels[order]):
            own = np.flatnonzero(labels[order] == number)
            rank[own] = (np.arange(len(own)) + 0.5) / len(own)
        order = order[np.argsort(rank, kind="stable")][: options.max_bags]
    return order


def usable_bags(
    bags: pd.DataFrame,
    excluded: Collection[str],
    target: str,
    options: SplitOptions,
    class_names: Sequence[str],
    numbers: NumericTarget | None = None,
) -> np.ndarray:
    """Return the positions of the bags that are not excluded and, if asked, have a label."""
    used = ~bags["bag_id"].isin(set(excluded)).to_numpy(dtype=bool)
    wanted = columns_read(numbers, options.label_column, default_column(target))
    columns = [found for name in wanted if (found := find_column(bags.columns, name)) is not None]
    if options.on_missing_label != "skip" or not columns or (numbers is not None and len(columns) < len(wanted)):
        return np.flatnonzero(used)  # a missing column is reported when labels are read
    if numbers is None:
        missing = missing_cells(bags, columns[0], [str(name) for name in class_names])
    else:
        missing = numbers.missing(bags, columns)
    if (missing & used).any():
        _log.warning(
            "left out: %s of %s bags have no label in column %s (%s)",
            f"{int((missing & used).sum()):,}", f"{len(bags):,}", ", ".join(map(repr, columns)),
            rows_of(bags, missing & used),
        )  # fmt: skip
    used &= ~missing
    if not used.any():
        raise ValueError(
            f"no bag has a label in column {', '.join(map(repr, columns))}; choose another with data.label_column=NAME"
        )
    return np.flatnonzero(used)


def _own_split(table: pd.DataFrame, column: str) -> np.ndarray:
    """Return the split that is part of the data set."""
    split = table[require_column(table.columns, column, f"data.split_column={column}")].to_numpy(dtype=object)
    wrong = [name for name in split if name not in SPLITS]
    if wrong:
        found = "an empty cell" if pd.isna(wrong[0]) else repr(wrong[0])
        raise ValueError(f"column {column!r} of the data has {found}; it must be one of {', '.join(SPLITS)}")
    return split


def _say_unused_split(table: pd.DataFrame) -> None:
    """Say that a column of the labels looks like a split but is not used."""
    column = find_column(table.columns, "split")
    if column is not None and table[column].isin(SPLITS).all():
        _log.warning(
            "column %r of the labels is not used as the split: a new one is made; data.split_column=%s uses it",
            column, column,
        )  # fmt: skip


def _require_whole_groups(bag_ids: Sequence[str], split: np.ndarray, groups: np.ndarray, origin: str) -> None:
    """Refuse a split that separates a group."""
    used = pd.DataFrame({"group": groups, "split": split, "bag": bag_ids})
    used = used[used["split"] != ""]
    sides = used.groupby("group")["split"].nunique()
    if (sides > 1).any():
        first = sides[sides > 1].index[0]
        own = used[used["group"] == first].drop_duplicates("split")
        where = " and ".join(f"{bag!r} in {side}" for bag, side in zip(own["bag"], own["split"], strict=True))
        raise ValueError(
            f"{origin} puts {int((sides > 1).sum())} group(s) in more than one split (first: {first!r}, with {where}); "
            "put all bags of a group, such as a patient, in one split"
        )
