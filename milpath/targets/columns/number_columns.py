"""Numbers, times and events of bags from the columns of a label table."""

import logging
import re
from collections.abc import Callable, Mapping, Sequence
from typing import Any

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from milpath.records.label_table import find_column, rows_of
from milpath.records.plain_values import MAX_NUMBER
from milpath.targets.columns.class_words import is_missing, label_text

_log = logging.getLogger(__name__)

Array = NDArray[np.float64]
_EVENTS = {
    "0": 0.0, "0.0": 0.0, "false": 0.0, "no": 0.0, "alive": 0.0, "living": 0.0, "censored": 0.0,
    "1": 1.0, "1.0": 1.0, "true": 1.0, "yes": 1.0, "dead": 1.0, "deceased": 1.0, "event": 1.0,
}  # fmt: skip
# As cBioPortal writes it: "0:LIVING", "1:DECEASED".
_NUMBERED = re.compile(r"\A([01]):.*", re.DOTALL)
# "censorship" and "os_censor", but not "event_uncensored", "non_censored", "license" or "census".
_CENSORED = re.compile(r"(?!.*(?:un|non?|not)[_ .-]?cens).*(?<!li)cens(?!us)")
# Columns that name where a bag comes from; times in other units show as a ratio of medians.
PLACES = ("center", "centre", "site", "hospital", "institution", "cohort", "data_provider", "provider", "scanner")
_UNITS = {30.4: "days and months", 365.25: "days and years", 12.0: "months and years"}
# Follow-up differs between centres as well; the next factors are more than twice this one apart.
_NEAR = 1.55
_MIN_BAGS = 3


def finite_numbers(bags: pd.DataFrame, column: str) -> Array:
    """Return a column of finite numbers, `(bags,)` float64.

    Raises:
        ValueError: If a cell is empty, not a number, infinite or beyond 1e30, with the slide.
    """
    values = pd.to_numeric(bags[column].astype(object), errors="coerce").to_numpy(dtype=np.float64)
    if (bad := ~(np.abs(values) <= MAX_NUMBER)).any():
        row = int(bad.argmax())
        cell = bags[column].iloc[row]
        beyond = f", beyond {MAX_NUMBER:g}" if np.isfinite(values[row]) else ""
        if re.fullmatch(r"[0-9]{1,3}[.,][0-9]{3}", str(cell)):
            digits = re.sub("[.,]", "", str(cell))
            beyond = f", which may be {int(digits) / 1000:g} or {int(digits)}: write one of them"
        hint = "data.on_missing_label=skip" if is_missing(cell) else "data.exclude"
        raise ValueError(
            f"column {column!r} must hold finite numbers, but {int(bad.sum()):,} of {len(bags):,} cells do not: the first "
            f"{cell_in_words(cell)}{beyond} (slide {rows_of(bags, bad)}); correct the table, or leave such "
            f"slides out with {hint}"
        )
    return values


def cell_in_words(cell: Any) -> str:
    """Return what a cell holds as a clause: "is empty", or its text in quotes."""
    return "is empty" if pd.isna(cell) or not str(cell).strip() else f"is {str(cell)!r}"


def times(bags: pd.DataFrame, column: str) -> Array:
    """Return a column of times of 0 or more, `(bags,)`; warn if centres use different units.

    Raises:
        ValueError: If a time is missing, not finite or negative, with the slide.
    """
    values = finite_numbers(bags, column)
    if (negative := values < 0).any():
        row = int(negative.argmax())
        raise ValueError(
            f"column {column!r} must hold times of 0 or more, but {int(negative.sum()):,} are negative: the first is "
            f"{values[row]:g} (slide {rows_of(bags, negative)}); correct the table, or list these slides in data.exclude"
        )
    warn_of_units(bags, values)
    return values


def events(bags: pd.DataFrame, column: str) -> Array:
    """Return a column of events, `(bags,)`: 1 if the event was observed, 0 if the bag is censored.

    Warns of a name that says censoring: such columns often hold 1 for a censored bag.

    Raises:
        ValueError: If a cell is no number or word of `_EVENTS`, nor begins with `0:` or `1:`, with the slide.

    Example:
        >>> events(pd.DataFrame({"bag_id": ["a", "b", "c"], "died": ["TRUE", "0", "1:DECEASED"]}), "died").tolist()
        [1.0, 0.0, 1.0]
    """
    texts = [_NUMBERED.sub(r"\1", label_text(value)).lower() for value in bags[column]]
    event = np.array([_EVENTS.get(text, np.nan) for text in texts])
    if (unknown := np.isnan(event)).any():
        row = int(unknown.argmax())
        way_out = ""
        if is_missing(bags[column].iloc[row]):
            way_out = ", or leave such slides out with data.on_missing_label=skip"
        raise ValueError(
            f"column {column!r} must hold 1 or true for an event and 0 or false for censoring, but the first of "
            f"{int(unknown.sum()):,} other cells {cell_in_words(bags[column].iloc[row])} (slide "
            f"{rows_of(bags, unknown)}); correct the table{way_out}"
        )
    if _CENSORED.match(str(column).lower()):
        _log.warning(
            "column %r is read as 1 for an event: %s of %s bags have one; if 1 is censored there, give a column with 1 for "
            "the event", column, f"{int(event.sum()):,}", f"{len(event):,}",
        )  # fmt: skip
    return event


READERS: Mapping[str, Callable[[pd.DataFrame, str], Array]] = {
    "number": finite_numbers,
    "time": times,
    "event": events,
}
"""Kind of a label column to the function that reads it."""


def warn_of_units(bags: pd.DataFrame, time: Array, places: Sequence[str] = PLACES) -> None:
    """Warn if the median time of two centres differs by about the factor between two units of time."""
    for column in filter(None, (find_column(bags.columns, name) for name in places)):
        groups = pd.Series(time).groupby(bags[column].astype(str).to_numpy())
        medians = groups.median()[groups.size() >= _MIN_BAGS]
        medians = medians[medians > 0].sort_values()
        if len(medians) < 2:
            continue
        ratio = medians.iloc[-1] / medians.iloc[0]
        if units := units_of(ratio):
            _log.warning(
                "times of %s %r are %.0f times those of %r (medians %.4g and %.4g): are they in %s? Use one unit",
                column, medians.index[-1], ratio, medians.index[0], medians.iloc[-1], medians.iloc[0], units,
            )  # fmt: skip


def units_of(ratio: float) -> str:
    """Return the two units of time whose factor is about a ratio of times, in words; empty if there are none.

    Args:
        ratio: Of two medians, > 0; also its inverse.

    Example:
        >>> units_of(28.0), units_of(1 / 28.0), units_of(2.0)
        ('days and months', 'days and months', '')
    """
    near = [units for factor, units in _UNITS.items() if 1 / _NEAR < max(ratio, 1 / ratio) / factor < _NEAR]
    return near[0] if near else ""
