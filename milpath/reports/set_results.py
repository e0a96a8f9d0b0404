"""Coverage of prediction sets as the report shows it."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from milpath.metrics.conformal import FITTED_ON, NUMBERS, CrossConformal, MeasuredSets, measure_sets
from milpath.reports.run_folder import RunFolder
from milpath.targets.set_parts import SetPart, Sets


@dataclass(frozen=True)
class SetResults:
    """Prediction sets of a run.

    Attributes:
        fitted: The fitted sets.
        note: What to know if there are too few validation bags; empty otherwise.
        by_split: Split to its rows.
    """

    fitted: Sets
    note: str
    by_split: Mapping[str, Sequence[MeasuredSets]]

    @property
    def of_numbers(self) -> bool:
        """Whether they are intervals of numbers."""
        return self.fitted.kind == NUMBERS

    @property
    def promise(self) -> float | None:
        """The coverage in theory of an average of folds; `None` of one network, where it is what was asked for."""
        return self.fitted.promise if isinstance(self.fitted, CrossConformal) else None


def set_results(
    run: RunFolder,
    parts: Sequence[SetPart],
    groups: NDArray[np.str_] | None,
    each: NDArray[np.float64] | None,
    name: str = "",
) -> SetResults | None:
    """Return the prediction sets on each split on which they are not fitted; `None` for a target without.

    Args:
        run: The run.
        parts: The targets of its checkpoint with their sets.
        groups: `(bags,)` patient of each predicted bag; `None` if all bags are independent.
        each: `(bags, folds, columns)` predictions of the folds of an average; `None` of one network.
        name: Name of one of several targets.
    """
    part = next((part for part in parts if part.name == name), None)
    if part is None or part.sets is None:
        return None
    by_split = {}
    for split in run.splits:
        if split not in FITTED_ON:
            rows = run.rows(split)
            known, labels = part.known(run.predictions.labels[rows])
            rows = rows[known]
            by_split[split] = measure_sets(
                part.sets, labels, part.of(run.predictions.probabilities[rows]), part.names,
                None if groups is None else groups[rows], None if each is None else part.of(each[rows]),
            )  # fmt: skip
    return SetResults(part.sets, part.sets.too_small(part.names), by_split)


def class_flags(
    run: RunFolder, parts: Sequence[SetPart], split: str, each: NDArray[np.float64] | None
) -> NDArray[np.bool_] | None:
    """Return which classes are in the set of each bag of a split, `(bags, classes)`; `None` without sets.

    Args:
        run: The run.
        parts: As in `set_results`.
        split: Name of the split.
        each: As in `set_results`.
    """
    if not parts or parts[0].sets is None:
        return None
    rows = run.rows(split)
    return parts[0].sets.sets(
        parts[0].of(run.predictions.probabilities[rows]), None if each is None else parts[0].of(each[rows])
    )
