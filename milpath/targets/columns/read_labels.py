"""Labels of targets without classes, and of several targets, from the columns of a label table.

They are functions rather than methods of the targets, which an endpoint loads without the library that reads tables.
"""

from collections.abc import Sequence
from dataclasses import replace
from functools import singledispatch

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from milpath.records.label_table import require_column, rows_of
from milpath.targets.columns.class_words import missing_cells, say_classes
from milpath.targets.columns.label_columns import bag_labels
from milpath.targets.columns.number_columns import READERS
from milpath.targets.numeric_target import NumericTarget
from milpath.targets.several.member import Member
from milpath.targets.several.several import Several
from milpath.targets.target import Array


def bag_numbers(
    bags: pd.DataFrame,
    target: NumericTarget,
    column: str | None,
    default: str,
    class_names: Sequence[str] | None = None,
) -> tuple[np.ndarray, NumericTarget]:
    """Return the labels of a target without classes, and the target with the names that it takes from the table.

    Args:
        bags: One row per bag: `bag_id` and the columns of the target.
        target: The target.
        column: `data.label_column`.
        default: Column of the labels if neither is given.
        class_names: `data.class_names`, which must be empty.

    Returns:
        Labels `(bags, label columns)` float64, NaN where one of several targets has none, and the target.

    Raises:
        ValueError: If a column is missing or a label is missing or invalid.
    """
    if class_names:
        raise ValueError(f"data.class_names is set, but a {target.name} task has no classes; set data.class_names=null")
    origin = f"target={target.name}"
    columns = [
        require_column(bags.columns, name, origin, "data.label_column or the columns of the target")
        for name in target.columns_of_table(column, default)
    ]
    named, labels = read_labels(target, bags, columns)
    return labels, named


@singledispatch
def read_labels(target: NumericTarget, bags: pd.DataFrame, columns: Sequence[str]) -> tuple[NumericTarget, Array]:
    """Return a target named after its columns, and the labels of bags, `(bags, label columns)`.

    Args:
        target: The target.
        bags: One row per bag: `bag_id` and the columns.
        columns: Names in the table of `columns_of_table`.

    Raises:
        ValueError: If a label is missing or invalid.
    """
    named = target.named_after(columns)
    labels = [READERS[kind](bags, column) for kind, column in zip(named.label_kinds, columns, strict=True)]
    return named, np.stack(labels, axis=1)


@singledispatch
def without_label(target: NumericTarget, bags: pd.DataFrame, columns: Sequence[str]) -> NDArray[np.bool_]:
    """Return which bags have no label, `(bags,)`: a cell of one of the columns is empty; of several targets, all lack one."""
    return np.asarray(np.stack([missing_cells(bags, column) for column in columns]).any(axis=0))


@read_labels.register
def _(target: Several, bags: pd.DataFrame, columns: Sequence[str]) -> tuple[NumericTarget, Array]:
    """Return several targets with the classes of their columns, and the labels, NaN where they are missing.

    Raises:
        ValueError: If a bag has no label at all, no bag has one of a target, or a cell is invalid.
    """
    if (missing := without_label(target, bags, columns)).any():
        raise ValueError(
            f"{int(missing.sum()):,} of {len(bags):,} slides have no label of any target ({', '.join(target.names)}): "
            f"slide {rows_of(bags, missing)}; fill them in, or leave such slides out with data.on_missing_label=skip"
        )
    read = [_read_member(member, bags, own) for member, own in _columns_of_members(target, columns)]
    return target.with_members([member for member, _ in read]), np.concatenate([labels for _, labels in read], axis=1)


@without_label.register
def _(target: Several, bags: pd.DataFrame, columns: Sequence[str]) -> NDArray[np.bool_]:
    each = [_missing_of_member(member, bags, own) for member, own in _columns_of_members(target, columns)]
    return np.asarray(np.stack(each).all(axis=0))


def _columns_of_members(target: Several, columns: Sequence[str]) -> list[tuple[Member, tuple[str, ...]]]:
    """Return each of several targets with the names of its columns in a table."""
    names = iter(columns)
    return [(member, tuple(next(names) for _ in member.columns)) for member in target.members]


def _missing_of_member(member: Member, bags: pd.DataFrame, columns: Sequence[str]) -> NDArray[np.bool_]:
    """Return which bags lack a label of one of several targets in one of its columns, `(bags,)`."""
    return np.asarray(np.stack([missing_cells(bags, column, member.class_names) for column in columns]).any(axis=0))


def _read_member(member: Member, bags: pd.DataFrame, columns: tuple[str, ...]) -> tuple[Member, Array]:
    """Return one of several targets with its classes, and its labels, NaN where one of them is missing.

    Raises:
        ValueError: If no bag has a label, or a cell is invalid.
    """
    present = ~_missing_of_member(member, bags, columns)
    if not present.any():
        raise ValueError(f"no bag has a label of the target {member.name!r} (column {', '.join(map(repr, columns))})")
    own, origin = bags[present], member.origin or (member.option if member.class_names else "sorted")
    if isinstance(member.target, NumericTarget):
        known, values = read_labels(member.target, own, columns)
        read = replace(member, target=known, columns=columns, class_names=tuple(known.names))
    else:
        labels, names = _read_classes(member, own, columns[0])
        say_classes(columns[0], names, origin, member.option)
        values = labels[:, None].astype(np.float64)
        read = replace(member, columns=columns, class_names=names, origin=origin)
    all_labels = np.full((len(bags), values.shape[1]), np.nan)
    all_labels[present] = values
    return read, all_labels


def _read_classes(member: Member, bags: pd.DataFrame, column: str) -> tuple[NDArray[np.int64], tuple[str, ...]]:
    """Return the class of each bag and the names of the classes; messages name the options of the target."""
    try:
        labels, names = bag_labels(bags, "label", member.class_names or None, column=column, say=False)
        member.target.num_outputs(len(names))
    except ValueError as error:
        text = str(error).replace("data.class_names", member.option).replace("data.label_column=", "column=")
        raise ValueError(f"target {member.name!r}: {text}") from None
    return labels, names
