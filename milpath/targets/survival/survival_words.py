"""Predictions of survival in words, for people."""

from collections.abc import Sequence

import numpy as np

from milpath.metrics.intervals import Interval
from milpath.targets.target import Array


def answers_of_survival_in_words(
    columns: Sequence[str], answers: Array, last_time: float | None, unit: str
) -> list[tuple[str, str]]:
    """Return the prediction of one bag as pairs of title and text with its unit.

    Args:
        columns: Columns of the prediction.
        answers: `(columns,)`.
        last_time: The time up to which survival is known; `None` without a predicted survival.
        unit: Unit of the times; empty text if unknown.
    """
    unit, rows = f" {unit}" if unit else "", []
    for name, value in zip(columns, np.ravel(answers).tolist(), strict=True):
        if name == "risk":
            rows.append(("risk", f"{value:.3f}"))
        elif name == "median_time":
            text = f"not reached within {last_time:.4g}{unit}" if np.isnan(value) else f"{value:.4g}{unit}"
            rows.append(("median time to the event", text))
        else:
            rows.append((f"no event up to {name.rpartition('_')[2]}{unit}", f"{value:.1%}"))
    return rows


def sentence_of_survival(where: str, num_events: int, found: Interval) -> str:
    """Return the sentence at the head of a report.

    Args:
        where: The start of the sentence, with split and number of bags.
        num_events: Number of bags with an event.
        found: Harrell's concordance index.
    """
    if found.value is None:
        return f"{where}, {num_events:,} have an event, too few to compare risks."
    reach = "" if found.low is None else f" (95% interval {found.low:.0%} to {found.high:.0%})"
    return (
        f"{where}, {num_events:,} have an event. Of two bags whose order is known, the one with the earlier "
        f"event has the higher predicted risk in {found.value:.0%} of cases{reach}; chance is 50%."
    )
