"""The target without classes of a data set: that of its options or of a trained network, fitted on the training split."""

import logging
import re
from collections.abc import Sequence
from typing import Any

import numpy as np
import pandas as pd

from milpath.data.splits.assign_splits import SPLITS
from milpath.data.splits.bag_table import require_two_classes, warn_of_one_class
from milpath.data.splits.label_cells import label_array
from milpath.targets import NumericTarget, Target, target_named, target_names
from milpath.targets.columns.label_columns import task_of

_log = logging.getLogger(__name__)


def numeric_target(task: str | Target | None, trained: Target | None) -> NumericTarget | None:
    """Return the target of a data set if it has no classes.

    Args:
        task: `data.task`, or a target with its options; `None` takes that of the trained network.
        trained: Target of a trained network with its fitted values, which is used if it has the same name.
    """
    name = task.name if isinstance(task, Target) else task or (None if trained is None else trained.name)
    if name is None or name not in target_names():
        return None  # an unknown name is reported together with the known ones when classes are read
    chosen = task if isinstance(task, Target) else target_named(name)
    target = trained if trained is not None and trained.name == name else chosen
    return target if isinstance(target, NumericTarget) else None


def fitted_target(
    task: str | Target | None,
    numbers: NumericTarget | None,
    trained: Target | None,
    names: Sequence[str],
    table: pd.DataFrame,
    *,
    are_sorted: bool = False,
) -> tuple[Target, tuple[str, ...]]:
    """Return the target of a data set and the names of its classes, or of what it predicts.

    Without classes it is fitted on the training split; that of a trained network, or without training bags, is as it is.

    Args:
        task: As in `numeric_target`.
        numbers: From `numeric_target`, after `named_numbers`; `None` with classes.
        trained: As in `numeric_target`.
        names: Names of the classes or of the columns of the labels.
        table: The bags with `split` and `label`.
        are_sorted: Whether the classes are words in alphabetical order, because nobody gave another.

    Raises:
        ValueError: If the task does not fit the classes, or nothing can be learnt from the labels of the training split.
    """
    if numbers is None:
        if task is None and trained is not None and _fits(trained, names):
            task = trained
        target = target_named(task_of(task.name if isinstance(task, Target) else task, names))
        if target.name == "ordinal" and are_sorted and not _count_up(names):
            _log.warning(
                "the classes of the ordinal task are in alphabetical order: %s; if this is not from low to high, give "
                "data.class_names=[...]",
                " < ".join(names),
            )
        warn_of_one_class(table, names)
        return target, tuple(names)
    training = table.loc[table["split"] == "train", "label"]
    if numbers is not trained and not training.empty:
        numbers = numbers.named_after(names).fitted_on(label_array(training))
    say_missing_labels(numbers, table)
    say_undefined_metrics(numbers, table)
    return numbers, numbers.names


def _fits(trained: Target, names: Sequence[str]) -> bool:
    """Return whether the target of a trained network has classes, and may have as many as the data."""
    try:
        return trained.has_classes and bool(task_of(trained.name, names))
    except ValueError:
        return False


def _count_up(names: Sequence[str]) -> bool:
    """Return whether names differ only in a number that rises: 0, 1, 2 or G1, G2, G3."""
    parts = [re.fullmatch(r"(\D*)(\d+)(\D*)", name) for name in names]
    numbers = [int(part[2]) for part in parts if part]
    return len({(part[1], part[3]) if part else None for part in parts}) == 1 and numbers == sorted(numbers) != []


def say_missing_labels(target: NumericTarget, table: pd.DataFrame) -> None:
    """Say how many bags of each split have no label of a target, if labels may be missing."""
    labels = {split: label_array(own) for split in SPLITS if len(own := table.loc[table["split"] == split, "label"])}
    counts = {split: target.num_labelled(each) for split, each in labels.items()}
    for name in next(iter(counts.values()), {}):
        missing = {split: len(labels[split]) - known[name] for split, known in counts.items()}
        if any(missing.values()):
            each = ", ".join(f"{number:,} of {len(labels[split]):,} in {split}" for split, number in missing.items())
            _log.warning("target %r: bags without a label, which its loss and metrics leave out: %s", name, each)


def require_learnable(target: Target, table: pd.DataFrame, class_names: Sequence[str], sampler: str) -> None:
    """Refuse to train on labels from which nothing can be learnt, or to draw equal numbers of classes without classes.

    Raises:
        ValueError: If the training split has a single class, or `data.sampler` does not fit.
    """
    if target.has_classes:
        require_two_classes(table, class_names)
    elif sampler == "balanced":
        raise ValueError(f"data.sampler=balanced draws classes equally, but a {target.name} task has none; use shuffle")


def label_counts(target: Target, table: pd.DataFrame, num_classes: int) -> dict[str, Any]:
    """Return the number of bags of each split: by class, or those with a label of each of several targets.

    Args:
        target: The target.
        table: The bags with `split` and `label`.
        num_classes: Number of classes.
    """
    labels = {split: label_array(own) for split in SPLITS if len(own := table.loc[table["split"] == split, "label"])}
    if not isinstance(target, NumericTarget):
        return {
            "bags_per_class": {split: np.bincount(own, minlength=num_classes).tolist() for split, own in labels.items()}
        }
    known = {split: target.num_labelled(own) for split, own in labels.items()}
    counts: dict[str, Any] = {"bags": {split: len(own) for split, own in labels.items()}}
    return counts | ({"bags_with_label": known} if any(known.values()) else {})


def say_undefined_metrics(target: NumericTarget, table: pd.DataFrame) -> None:
    """Warn about splits in which metrics will be undefined."""
    for split in SPLITS:
        labels = label_array(table.loc[table["split"] == split, "label"])
        if len(labels) and (missing := target.undefined_metrics(labels)):
            _log.warning("split %r: %s undefined there", split, missing)
