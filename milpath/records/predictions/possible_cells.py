"""Cells of a table of predictions as numbers; one that no network can have predicted is refused by its row and column."""

import json
import re
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from milpath.records.plain_values import brief

PROBABILITY_PREFIX = "probability_"
# Columns of the labels of a target without classes.
LABEL_PREFIX = "label_"
_Numbers = NDArray[np.float64]
# Sums of half-precision probabilities, and of numbers with fewer digits, differ from 1; ends of [0, 1] only by rounding.
_SUM, _END = 1e-2, 1e-6
# Predictions of a target, after its name and a slash if there are several.
_PROBABILITY = re.compile(rf"(?:(?P<target>.*?)/)?{PROBABILITY_PREFIX}.*", re.DOTALL)
_SURVIVAL = re.compile(r"(?:(?P<target>.*?)/)?(?P<quantity>risk|median_time|survival_at_[0-9.e+-]+)", re.DOTALL)
_OF_NUMBER = re.compile(r"(?:.*/)?predicted_.*", re.DOTALL)


class PossibleCells:
    """The columns of a table of predictions as numbers.

    Args:
        path: The file, for messages.
        table: Its rows in their order, with the column `bag_id`.
    """

    def __init__(self, path: str | Path, table: pd.DataFrame) -> None:
        self._path, self._table = path, table

    def classes(self, column: str, num_classes: int, *, may_be_empty: bool = False) -> NDArray[np.int64]:
        """Return a column of class indices, -1 where it may be empty and is.

        Raises:
            ValueError: If a cell is not the number of a class.
        """
        values = self._numbers(column)
        # Another program may write -1 for a label that it does not know.
        possible = np.isin(values, np.arange(-1 if may_be_empty else 0, num_classes))
        possible |= self._is_empty(column) & may_be_empty
        or_empty = ", or empty" if may_be_empty else ""
        self._require(column, possible, f"the number of a class, 0 to {num_classes - 1}{or_empty}")
        return np.where(np.isnan(values), -1, values).astype(np.int64)

    def probabilities(self, columns: Sequence[str]) -> _Numbers:
        """Return the probabilities of all classes, `(bags, classes)`.

        Raises:
            ValueError: If one is not in [0, 1], or those of a bag do not sum to 1.
        """
        values = self._within(columns, 0, 1, "a probability, from 0 to 1")
        sums = values.sum(axis=1)
        wrong = np.abs(sums - 1) > _SUM
        if wrong.any():
            row = int(wrong.argmax())
            names = f"{columns[0]} to {columns[-1]} sum" if len(columns) > 1 else f"{columns[0]} sums"
            raise ValueError(f"{self._at(row)}: {names} to {sums[row]:.6g}; the classes of a bag must sum to 1")
        return values

    def labels_of_numbers(self, columns: Sequence[str]) -> _Numbers:
        """Return the labels of a target without classes, NaN in an empty cell.

        Raises:
            ValueError: If one is not finite.
        """
        for column in columns:
            possible = np.isfinite(self._numbers(column)) | self._is_empty(column)
            self._require(column, possible, "a finite number, or empty")
        return self._matrix(columns)

    def answers(self, columns: Sequence[str], labels: Sequence[str], may_be_empty: Sequence[str]) -> _Numbers:
        """Return the predictions of a target without classes; its columns say what they are.

        Args:
            columns: Names of the predictions.
            labels: Names of the columns of labels, which have to fit.
            may_be_empty: Names of predictions that may be empty, without the name of one of several targets.

        Raises:
            ValueError: If a number is not finite, or a probability, a time or the label of it cannot be.
        """
        classes: dict[str | None, list[str]] = {}
        for column in columns:
            if _OF_NUMBER.fullmatch(column):
                self._require_finite(column)
            elif found := _SURVIVAL.fullmatch(column):
                self._require_survival(column, found["target"], found["quantity"], labels, may_be_empty)
            elif found := _PROBABILITY.fullmatch(column):
                classes.setdefault(found["target"], []).append(column)
            else:
                self._require_finite(column)
        for target, own in classes.items():
            self.probabilities(own)
            if f"{LABEL_PREFIX}{target}" in labels:
                self.classes(f"{LABEL_PREFIX}{target}", len(own), may_be_empty=True)
        return self._matrix(columns)

    def lists(self, column: str) -> list[_Numbers]:
        """Return a column of JSON lists as arrays.

        Raises:
            ValueError: If a cell is no list of numbers.
        """
        return [self._list(column, row, cell) for row, cell in enumerate(self._table[column])]

    def _list(self, column: str, row: int, cell: Any) -> _Numbers:
        value, reason = cell, ""
        try:
            value = json.loads(cell) if isinstance(cell, str) else None
            if isinstance(value, list) and set(map(type, value)) <= {int, float}:
                return np.asarray(value, dtype=np.float64)
        except RecursionError:
            reason = "nested too deeply"
        except OverflowError:
            reason = "a number is too large"
        except ValueError as error:
            reason = brief(str(error))[1:-1]
        found = reason or ("it is empty" if value is None else brief(value))
        raise ValueError(f"{self._at(row)}: {column} is no list of numbers, such as [0.25, 0.75] ({found})")

    def _require_survival(
        self, column: str, target: str | None, quantity: str, labels: Sequence[str], may_be_empty: Sequence[str]
    ) -> None:
        """Refuse a risk, a survival or a time that cannot be, and times and events beside a risk."""
        if quantity in may_be_empty:
            self._require_time(column)
        elif quantity != "risk":
            self._within([column], 0, 1, "a probability, from 0 to 1")
        else:
            self._require_finite(column)
            time, event = (
                f"{LABEL_PREFIX}{target}/{name}" if target else LABEL_PREFIX + name for name in ("time", "event")
            )
            if time in labels and event in labels:
                self._require_time(time)
                self._require(event, np.isin(self._numbers(event), (0, 1)) | self._is_empty(event), "0, 1 or empty")

    def _require_finite(self, column: str) -> None:
        self._require(column, np.isfinite(self._numbers(column)), "a finite number")

    def _require_time(self, column: str) -> None:
        values = self._numbers(column)
        self._require(column, (values >= 0) & np.isfinite(values) | self._is_empty(column), "0 or more, or empty")

    def _within(self, columns: Sequence[str], low: float, high: float, expected: str) -> _Numbers:
        """Return numbers in a range, apart from rounding."""
        for column in columns:
            values = self._numbers(column)
            self._require(column, (values >= low - _END) & (values <= high + _END), expected)
        return self._matrix(columns)

    def _require(self, column: str, possible: NDArray[np.bool_], expected: str) -> None:
        """Refuse the first cell that is not possible."""
        if not possible.all():
            row = int(possible.argmin())
            cell = self._table[column].iloc[row]
            empty = bool(self._is_empty(column)[row])
            found = "empty" if empty else brief(cell) if isinstance(cell, str) else f"{float(cell):.9g}"
            raise ValueError(f"{self._at(row)}: {column} is {found}; it must be {expected}")

    def _at(self, row: int) -> str:
        """Return where a row is: the number that a spreadsheet program shows, and its bag."""
        return f"{self._path}, row {row + 2}, bag {self._table['bag_id'].iloc[row]!r}"

    def _is_empty(self, column: str) -> NDArray[np.bool_]:
        return np.asarray(self._table[column].isna(), dtype=np.bool_)

    def _numbers(self, column: str) -> _Numbers:
        """Return a column as numbers, NaN for a cell that is none."""
        return np.asarray(pd.to_numeric(self._table[column], errors="coerce"), dtype=np.float64)

    def _matrix(self, columns: Sequence[str]) -> _Numbers:
        return (
            np.stack([self._numbers(column) for column in columns], axis=1)
            if columns
            else np.empty((len(self._table), 0))
        )
