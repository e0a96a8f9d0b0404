"""Class labels from the columns of a label table."""

from collections.abc import Sequence

import numpy as np
import pandas as pd

from milpath.records.label_table import quote_first
from milpath.targets.registry import target_named, target_names

TARGETS = ("label", "malignant", "isup")
NUM_ISUP_GRADES = 6
_TASKS = ("binary", "nominal", "ordinal")


def bag_labels(
    bags: pd.DataFrame, target: str, class_names: Sequence[str] | None = None
) -> tuple[np.ndarray, tuple[str, ...]]:
    """Return the label of each bag and the names of the classes.

    Args:
        bags: One row per bag: `bag_id` and the column that the target needs.
        target: "label" (column `label`, integers from 0), "malignant" (`isup_grade` of 1 or more against 0) or "isup"
            (the six grades of `isup_grade`).
        class_names: Names in the order of the labels; `None` uses `benign, malignant`, `isup_0 ...` or the numbers.

    Returns:
        Labels `(bags,)` int64 and the class names.

    Raises:
        ValueError: If the target is unknown, its column is missing, or a label is missing, not an integer or out of
            range.

    Example:
        >>> bag_labels(pd.DataFrame({"bag_id": ["a", "b"], "isup_grade": [0, 4]}), "malignant")
        (array([0, 1]), ('benign', 'malignant'))
    """
    if target not in TARGETS:
        raise ValueError(f"data.target is {target!r}; it must be one of {', '.join(TARGETS)}")
    if class_names and len(set(class_names)) < len(class_names):
        raise ValueError(f"data.class_names has a name twice: {', '.join(class_names)}; give each class its own name")
    column = "label" if target == "label" else "isup_grade"
    if column not in bags.columns:
        raise ValueError(f"data.target={target} needs the column {column!r}; the data have {', '.join(bags.columns)}")
    if target == "label":
        names = tuple(class_names) if class_names else None
        values = _whole_numbers(bags, column, len(names) if names else None, "data.class_names")
        return values, names or tuple(str(number) for number in range(max(2, int(values.max()) + 1)))
    grades = _whole_numbers(bags, column, NUM_ISUP_GRADES, "an ISUP grade")
    if target == "malignant":
        names = tuple(class_names) if class_names else ("benign", "malignant")
        return (grades >= 1).astype(np.int64), _require_length(names, 2, target)
    names = tuple(class_names) if class_names else tuple(f"isup_{grade}" for grade in range(NUM_ISUP_GRADES))
    return grades, _require_length(names, NUM_ISUP_GRADES, target)


def task_of(task: str | None, class_names: Sequence[str]) -> str:
    """Return the task, or the default for the number of classes if it is `None`.

    Raises:
        ValueError: If there is no such task, or it does not fit the number of classes.

    Example:
        >>> task_of(None, ["benign", "malignant"]), task_of(None, ["a", "b", "c"])
        ('binary', 'nominal')
    """
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
        value = bags[column].iloc[row]
        if pd.isna(value):
            raise ValueError(f"slide {bags['bag_id'].iloc[row]!r} has no label: its cell in column {column!r} is empty")
        raise ValueError(
            f"label {str(value)!r} of slide {bags['bag_id'].iloc[row]!r} is not a whole number; "
            f"column {column!r} of the labels must hold 0, 1, ..."
        )
    out = (values < 0) | (values >= num_classes) if num_classes else values < 0
    if out.any():
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
