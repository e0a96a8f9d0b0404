"""Checks of a label table before a store is built, and the names that a target takes from it."""

import logging
from collections.abc import Collection, Iterator, Sequence
from contextlib import contextmanager

import pandas as pd

from milpath.data.splits.bag_lists import excluded_bags
from milpath.data.splits.bag_table import SplitOptions, label_and_split, usable_bags
from milpath.targets import NumericTarget, Target
from milpath.targets.columns.label_columns import bag_labels, bag_numbers, default_column


def named_numbers(
    bags: pd.DataFrame,
    target: str,
    options: SplitOptions,
    left_out: Collection[str] | None,
    numbers: NumericTarget | None,
    trained: Target | None,
) -> NumericTarget | None:
    """Return a target without classes with the names that it takes from the labels: its columns, or their classes.

    Args:
        bags: As in `label_and_split`.
        target: As in `bag_labels`.
        options: As in `label_and_split`.
        left_out: As in `label_and_split`.
        numbers: The target; `None` with classes.
        trained: Target of a trained network, which has its names.

    Raises:
        ValueError: If labels are invalid.
    """
    if numbers is None or numbers is trained:
        return numbers
    excluded = excluded_bags(options.exclude, bags["bag_id"].tolist()) if left_out is None else left_out
    with _unheard():
        used = bags.iloc[usable_bags(bags, excluded, target, options, (), numbers)]
        return bag_numbers(used, numbers, options.label_column, default_column(target))[1]


def require_labels_of(
    table: pd.DataFrame,
    target: str,
    class_names: Sequence[str] | None,
    options: SplitOptions,
    left_out: Collection[str] | None = None,
    trained_names: Sequence[str] | None = None,
    numbers: NumericTarget | None = None,
    *,
    and_split: bool = True,
) -> None:
    """Refuse a label table that `label_and_split` would refuse.

    Args:
        table: One row per bag.
        target: As in `bag_labels`.
        class_names: As in `bag_labels`.
        options: As in `label_and_split`.
        left_out: As in `label_and_split`.
        trained_names: As in `bag_labels`.
        numbers: As in `label_and_split`.
        and_split: Also try to split, which takes a second for ten thousand bags.

    Raises:
        ValueError: If labels, groups or splits are invalid.
    """
    with _unheard():
        if and_split:
            label_and_split(table, target, class_names, options, left_out, trained_names, numbers)
            return
        excluded = excluded_bags(options.exclude, table["bag_id"].tolist()) if left_out is None else left_out
        used = table.iloc[usable_bags(table, excluded, target, options, class_names or trained_names or (), numbers)]
        if numbers is not None:
            bag_numbers(used, numbers, options.label_column, default_column(target), class_names)
            return
        bag_labels(used, target, class_names, column=options.label_column, trained_names=trained_names)


@contextmanager
def _unheard() -> Iterator[None]:
    """Keep back warnings and notes that follow again when the store has been built."""
    loggers = [logging.getLogger(f"milpath.{name}") for name in ("data", "records", "targets")]
    levels = [logger.level for logger in loggers]
    try:
        for logger in loggers:
            logger.setLevel(logging.ERROR)
        yield
    finally:
        for logger, level in zip(loggers, levels, strict=True):
            logger.setLevel(level)
