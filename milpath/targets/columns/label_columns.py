"""Class labels from the columns of a label table."""

from collections.abc import Mapping, Sequence

import numpy as np
import pandas as pd

from milpath.records.label_table import quote_first, require_column, rows_of
from milpath.targets.columns.class_words import (
    classes_of_words,
    explain_names_of_numbers,
    explain_numbers,
    label_text,
    missing_cells,
    say_classes,
    sorted_words,
)
from milpath.targets.numeric_target import NumericTarget
from milpath.targets.registry import target_named, target_names

TARGETS = ("label", "malignant", "isup")
NUM_ISUP_GRADES = 6
_TASKS = ("binary", "nominal", "ordinal")


def bag_labels(
    bags: pd.DataFrame,
    target: str,
    class_names: Sequence[str] | None = None,
    *,
    column: str | Mapping[str, str] | None = None,
    trained_names: Sequence[str] | None = None,
    say: bool = True,
) -> tuple[np.ndarray, tuple[str, ...]]:
    """Return the label of each bag and the names of the classes.

    Args:
        bags: One row per bag: `bag_id` and the column that the target needs.
        target: "label" (column `label`, words or integers from 0), "malignant" (`isup_grade` of 1 or more against 0) or
            "isup" (the six grades of `isup_grade`).
        class_names: Names in the order of the labels; `None` uses `benign, malignant`, `isup_0 ...`, the sorted words or
            the numbers. If all cells are names of classes, they are the labels, even if they are numbers.
        column: Column of the labels instead of `label` or `isup_grade`.
        trained_names: Names of the classes of a trained network, used for words if `class_names` is `None`.
        say: Log which word became which class.

    Returns:
        Labels `(bags,)` int64 and the class names.

    Raises:
        ValueError: If the target is unknown, its column is missing, or a label is missing, unknown, not an integer or out
            of range.

    Example:
        >>> bag_labels(pd.DataFrame({"bag_id": ["a", "b"], "isup_grade": [0, 4]}), "malignant")
        (array([0, 1]), ('benign', 'malignant'))
        >>> bags = pd.DataFrame({"bag_id": ["a", "b"], "MSI": ["MSS", "MSI-H"]})
        >>> bag_labels(bags, "label", ["MSS", "MSI-H"], column="MSI")
        (array([0, 1]), ('MSS', 'MSI-H'))
    """
    if target not in TARGETS:
        raise ValueError(f"data.target is {target!r}; it must be one of {', '.join(TARGETS)}")
    names = tuple(map(str, class_names or ()))
    if len(set(names)) < len(names):
        raise ValueError(f"data.class_names has a name twice: {', '.join(names)}; give each class its own name")
    (wanted,) = columns_read(None, column, default_column(target))
    column = require_column(bags.columns, wanted, f"data.target={target}", "data.label_column")
    _require_labels(bags, column, names or tuple(trained_names or ()))
    if target == "label":
        return _classes(bags, column, names, tuple(trained_names or ()), say)
    grades = _whole_numbers(bags, column, NUM_ISUP_GRADES, "an ISUP grade")
    if target == "malignant":
        return (grades >= 1).astype(np.int64), _require_length(names or ("benign", "malignant"), 2, target)
    names = names or tuple(f"isup_{grade}" for grade in range(NUM_ISUP_GRADES))
    return grades, _require_length(names, NUM_ISUP_GRADES, target)


def bag_numbers(
    bags: pd.DataFrame,
    target: NumericTarget,
    column: str | Mapping[str, str] | None,
    default: str,
    class_names: Sequence[str] | None = None,
) -> tuple[np.ndarray, NumericTarget]:
    """Return the labels of a target without classes, and the target with the names that it takes from the table.

    Args:
        bags: One row per bag: `bag_id` and the columns of the target.
        target: The target.
        column: `data.label_column`: of one number, or for each column of the target the one in this table.
        default: Column of the labels if neither is given.
        class_names: `data.class_names`, which must be empty.

    Returns:
        Labels `(bags, label columns)` float64, NaN where one of several targets has none, and the target.

    Raises:
        ValueError: If a column is missing or a label is missing or invalid.
    """
    if class_names:
        raise ValueError(f"data.class_names is set, but a {target.name} task has no classes; set data.class_names=null")
    origin, wanted = f"target={target.name}", columns_read(target, column, default)
    columns = [
        require_column(bags.columns, name, origin, "data.label_column" if len(wanted) == 1 else _option(target, name))
        for name in wanted
    ]
    named, labels = target.read(bags, columns)
    return labels, named


def _option(target: NumericTarget, name: str) -> str:
    """Return the words that choose one of several columns of a target."""
    own = f"target.{name}_column=NAME" if hasattr(target, f"{name}_column") else "the column options of the target"
    return f"{own}, or for a trained network data.label_column={{{name}:NAME}}"


def columns_read(target: NumericTarget | None, column: str | Mapping[str, str] | None, default: str) -> tuple[str, ...]:
    """Return the columns of the label table that labels are read from, in the order of the target.

    Args:
        target: The target; `None` with classes.
        column: `data.label_column`: a column, or a column for each that the target names.
        default: Column of the labels if neither is given.

    Raises:
        ValueError: If the target has no such column.

    Example:
        >>> from milpath.targets import Survival
        >>> columns_read(Survival(), {"time": "os_months"}, "label")
        ('os_months', 'event')
    """
    if not isinstance(column, Mapping):
        return (column or default,) if target is None else target.columns_of_table(column, default)
    if target is None:
        raise ValueError(
            "data.label_column={...} is for a target of several columns; give data.label_column=NAME of the classes"
        )
    own = target.columns_of_table(None, default)
    for name in column:
        if name not in own:
            raise ValueError(
                f"data.label_column has {name!r}, which is no column of the target; it reads {', '.join(own)}"
            )
    return tuple(str(column.get(name, name)) for name in own)


def default_column(target: str) -> str:
    """Return the column of a target's labels, unless another one is given."""
    return "label" if target == "label" else "isup_grade"


def _require_labels(bags: pd.DataFrame, column: str, class_names: Sequence[str]) -> None:
    """Refuse bags without a label, by name."""
    if (missing := missing_cells(bags, column, class_names)).any():
        count = int(missing.sum())
        have = (
            "1 slide has no label: its cell"
            if count == 1
            else f"{count:,} of {len(bags):,} slides have no label: the cell"
        )
        words = sorted({label_text(value) for value in bags[column][missing].dropna()} - {""})
        holds = " or ".join(
            [*(["empty"] if missing_cells(bags[missing], column, words).any() else []), *map(repr, words)]
        )
        as_class = f"; if {words[0]} is a class, name all classes in data.class_names=[...]" if words else ""
        raise ValueError(
            f"{have} in column {column!r} is {holds} ({rows_of(bags, missing)}); fill it in, or leave such slides out with "
            f"data.on_missing_label=skip{as_class}"
        )


def _classes(
    bags: pd.DataFrame, column: str, names: tuple[str, ...], trained_names: tuple[str, ...], say: bool
) -> tuple[np.ndarray, tuple[str, ...]]:
    """Return the labels and names of classes that are words or numbers."""
    texts = {label_text(value) for value in bags[column]}
    for known, origin in ((names, "data.class_names"), (() if names else trained_names, "the classes of the network")):
        if known and texts <= set(known):
            return classes_of_words(bags, column, known, origin, say), known
    is_number = pd.to_numeric(pd.Series(sorted(texts)), errors="coerce").notna()
    if not is_number.any() or ((names or trained_names) and not is_number.all()):
        origin = "data.class_names" if names else "the classes of the network" if trained_names else "sorted"
        names = names or trained_names or sorted_words(bags, column)
        return classes_of_words(bags, column, names, origin, say), names
    values = _whole_numbers(bags, column, len(names) or None, "data.class_names")
    if not names:
        reason = explain_numbers(values, column, None)
    else:  # other slides of a trained network may lack its first class
        reason = "" if trained_names else explain_names_of_numbers(values, column, names)
    if reason:
        raise ValueError(reason)
    if names and say:
        say_classes(column, names, "data.class_names")
    return values, names or tuple(str(number) for number in range(max(2, int(values.max()) + 1)))


def task_of(task: str | None, class_names: Sequence[str]) -> str:
    """Return the task, or the default for the number of classes if it is `None`.

    Raises:
        ValueError: If there is no such task, or it does not fit the number of classes.

    Example:
        >>> task_of(None, ["benign", "malignant"]), task_of(None, ["a", "b", "c"])
        ('binary', 'nominal')
    """
    if task is not None and task in target_names() and not target_named(task).has_classes:
        return task
    suggested = "binary" if len(class_names) == 2 else "nominal"
    if task is None:
        return suggested
    if task not in target_names():
        raise ValueError(f"data.task is {task!r}; it must be one of {', '.join(target_names())}, or null")
    if task in _TASKS and target_named(task).has_threshold != (len(class_names) == 2):
        raise ValueError(f"data.task={task} does not fit {len(class_names)} classes ({', '.join(class_names)})")
    target_named(task).num_outputs(len(class_names))  # a user-defined target checks this itself
    return task


def _whole_numbers(bags: pd.DataFrame, column: str, num_classes: int | None, what: str) -> np.ndarray:
    """Return a column as int64 in 0..num_classes-1."""
    values = pd.to_numeric(bags[column], errors="coerce")
    bad = values.isna() | (values % 1 != 0)
    if bad.any():
        row = int(bad.to_numpy().argmax())
        raise ValueError(
            f"label {str(bags[column].iloc[row])!r} of slide {bags['bag_id'].iloc[row]!r} is not a whole number; "
            f"column {column!r} of the labels must hold 0, 1, ..., or the words in data.class_names=[...]"
        )
    out = (values < 0) | (values >= num_classes) if num_classes else values < 0
    if out.any():
        if what.startswith("data.") and (reason := explain_numbers(values.to_numpy(np.int64), column, num_classes)):
            raise ValueError(reason)
        row = int(out.to_numpy().argmax())
        limit = f"0..{num_classes - 1}" if num_classes else "0, 1, ..."
        has = f"{what} has {num_classes} names" if what.startswith("data.") else f"{what} is 0 to 5"
        raise ValueError(f"label {values.iloc[row]:g} of slide {bags['bag_id'].iloc[row]!r} is not in {limit}; {has}")
    return values.to_numpy(dtype=np.int64)


def _require_length(names: tuple[str, ...], expected: int, target: str) -> tuple[str, ...]:
    """Return the names if their number matches the classes of the target."""
    if len(names) != expected:
        raise ValueError(
            f"data.target={target} has {expected} classes, but data.class_names has {len(names)} names: "
            f"{quote_first(names, expected)}"
        )
    return names
