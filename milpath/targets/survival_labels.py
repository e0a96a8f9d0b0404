"""Time and event of each bag from the columns of a label table."""

import logging
from collections.abc import Sequence

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from milpath.records.label_table import find_column, rows_of
from milpath.targets.class_words import label_text
from milpath.targets.numeric_target import cell_in_words, finite_numbers

_log = logging.getLogger(__name__)

Array = NDArray[np.float64]
_EVENTS = {"0": 0.0, "1": 1.0, "0.0": 0.0, "1.0": 1.0, "false": 0.0, "true": 1.0}
# Columns that name where a bag comes from; times in other units show as a ratio of medians.
PLACES = ("center", "centre", "site", "hospital", "institution", "cohort", "data_provider", "provider", "scanner")
_UNITS = {30.4: "days and months", 365.25: "days and years", 12.0: "months and years"}
_MIN_BAGS = 3


def survival_labels(bags: pd.DataFrame, time_column: str, event_column: str) -> Array:
    """Return time and event of each bag, `(bags, 2)`.

    Args:
        bags: One row per bag: `bag_id` and the columns.
        time_column: Column of the time of the event or of censoring.
        event_column: Column of the event: 1 or true if it was observed, 0 or false if the bag is censored.

    Raises:
        ValueError: If a time is missing, not finite or negative, or an event is another word.

    Example:
        >>> bags = pd.DataFrame({"bag_id": ["a", "b"], "months": [3.5, 8], "died": ["TRUE", "0"]})
        >>> survival_labels(bags, "months", "died").tolist()
        [[3.5, 1.0], [8.0, 0.0]]
    """
    time = finite_numbers(bags, time_column)
    if (negative := time < 0).any():
        row = int(negative.argmax())
        raise ValueError(
            f"column {time_column!r} must hold times of 0 or more, but {int(negative.sum()):,} are negative: the first is "
            f"{time[row]:g} (slide {rows_of(bags, negative)}); correct the table, or list these slides in data.exclude"
        )
    texts = [label_text(value).lower() for value in bags[event_column]]
    event = np.array([_EVENTS.get(text, np.nan) for text in texts])
    if (unknown := np.isnan(event)).any():
        row = int(unknown.argmax())
        cell = bags[event_column].iloc[row]
        raise ValueError(
            f"column {event_column!r} must hold 1 or true for an event and 0 or false for censoring, but the first of "
            f"{int(unknown.sum()):,} other cells {cell_in_words(cell)} (slide {rows_of(bags, unknown)}); correct the table"
        )
    warn_of_units(bags, time)
    return np.stack([time, event], axis=1)


def warn_of_units(bags: pd.DataFrame, time: Array, places: Sequence[str] = PLACES) -> None:
    """Warn if the median time of two centres differs by the factor between two units of time, within a quarter."""
    for column in filter(None, (find_column(bags.columns, name) for name in places)):
        groups = pd.Series(time).groupby(bags[column].astype(str).to_numpy())
        medians = groups.median()[groups.size() >= _MIN_BAGS]
        medians = medians[medians > 0].sort_values()
        if len(medians) < 2:
            continue
        ratio = medians.iloc[-1] / medians.iloc[0]
        for factor, units in _UNITS.items():
            if 0.75 < ratio / factor < 1.33:
                _log.warning(
                    "times of %s %r are %.0f times those of %r (medians %.4g and %.4g): are they in %s? Use one unit",
                    column, medians.index[-1], ratio, medians.index[0], medians.iloc[-1], medians.iloc[0], units,
                )  # fmt: skip
