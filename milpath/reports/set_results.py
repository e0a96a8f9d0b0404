"""Coverage of prediction sets as the report shows it."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from milpath.metrics.conformal import FITTED_ON, NUMBERS, Conformal, MeasuredSets, measure_sets
from milpath.metrics.evaluated_bags import EvaluatedBags


@dataclass(frozen=True)
class SetResults:
    """Prediction sets of a run.

    Attributes:
        conformal: The fitted sets.
        note: What to know if there are too few validation bags; empty otherwise.
        of_numbers: Whether they are intervals of numbers.
        by_split: Split to its rows.
    """

    conformal: Conformal
    note: str
    of_numbers: bool
    by_split: Mapping[str, Sequence[MeasuredSets]]


def set_results(outcomes: Mapping[str, Any], conformal: Conformal | None, names: Sequence[str]) -> SetResults | None:
    """Return the prediction sets on each split on which they are not fitted; `None` for a run without.

    Args:
        outcomes: Split to outcomes.
        conformal: The fitted sets; `None` without.
        names: Names of the classes or numbers.
    """
    if conformal is None:
        return None
    by_split = {
        split: measure_sets(conformal, each.labels, _answers(each), names, each.groups)
        for split, each in outcomes.items()
        if split not in FITTED_ON
    }
    return SetResults(conformal, conformal.too_small(names), conformal.kind == NUMBERS, by_split)


def _answers(outcomes: Any) -> Any:
    """Return the probabilities or the predicted numbers."""
    return outcomes.probabilities if isinstance(outcomes, EvaluatedBags) else outcomes.answers
