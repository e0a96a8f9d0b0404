"""Coverage and size of prediction sets on a split, as numbers of `metrics.json` and of the report."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from milpath.metrics.conformal.conformity_scores import NUMBERS
from milpath.metrics.conformal.cross_conformal import CrossConformal
from milpath.metrics.conformal.measured_coverage import measured_coverage
from milpath.metrics.conformal.prediction_sets import Conformal
from milpath.metrics.intervals import Interval

Array = NDArray[np.float64]
# Splits on which sets or networks are fitted: a coverage there says nothing about other bags.
FITTED_ON = ("val", "train")


@dataclass(frozen=True)
class MeasuredSets:
    """Prediction sets measured on bags that they were not fitted on.

    Attributes:
        name: Name of the class or number; empty for the sets of all bags.
        num_bags: Number of bags.
        coverage: Share of sets with the truth, each patient counting once, and its 95% interval.
        size: Mean number of classes in a set, or mean width of an interval; `None` if there are no bags or no ends.
        one_class: Share of sets that hold one class; `None` for numbers.
        of_numbers: Whether these are intervals of a number.
    """

    name: str
    num_bags: int
    coverage: Interval
    size: float | None
    one_class: float | None
    of_numbers: bool = False


def measure_sets(
    conformal: Conformal | CrossConformal,
    labels: NDArray[Any],
    answers: Array,
    names: Sequence[str],
    groups: NDArray[np.str_] | None = None,
    each: Array | None = None,
) -> list[MeasuredSets]:
    """Return the sets of all bags, then of each class; or the intervals of each number.

    Args:
        conformal: The fitted sets.
        labels: `(bags,)`, or `(bags, numbers)`.
        answers: `(bags, classes)` probabilities with the temperature of the checkpoint, `(bags, numbers)`, or
            `(bags, 2 numbers)` lower and upper quantiles.
        names: Names of the classes or numbers.
        groups: `(bags,)` patient of each bag; `None` if all bags are independent.
        each: `(bags, networks, columns)` of answers by each network of an average; `None` of one network.
    """
    covered = conformal.covered(labels, answers, each)
    if conformal.kind == NUMBERS:
        low, high = conformal.intervals(answers, each)
        widths = [float(own.mean()) if len(own) and np.isfinite(own).all() else None for own in (high - low).T]
        return [
            MeasuredSets(name, len(labels), measured_coverage(covered[:, place], groups), widths[place], None, True)
            for place, name in enumerate(names)
        ]
    sizes = conformal.sets(answers, each).sum(axis=1)
    rows = []
    for name, chosen in [("", np.ones(len(labels), bool)), *((name, labels == k) for k, name in enumerate(names))]:
        known, any_bags = None if groups is None else groups[chosen], bool(chosen.any())
        rows.append(
            MeasuredSets(
                name,
                int(chosen.sum()),
                measured_coverage(covered[chosen], known),
                float(sizes[chosen].mean()) if any_bags else None,
                float((sizes[chosen] == 1).mean()) if any_bags else None,
            )
        )
    return rows


def set_metrics(rows: Sequence[MeasuredSets]) -> dict[str, float | None]:
    """Return the sets as values of `metrics.json`: coverage with its interval, size, and the share of one class.

    Those of a class or a number end in `_of_<name>`, so that a class called low is not the lower end of an interval.

    Example:
        >>> set_metrics([MeasuredSets("", 8, Interval(0.5, 0.2, 0.8), 1.5, 0.5)])
        {'set_coverage': 0.5, 'set_coverage_low': 0.2, 'set_coverage_high': 0.8, 'set_size': 1.5, 'sets_of_one_class': 0.5}
    """
    values: dict[str, float | None] = {}
    for row in rows:
        suffix = f"_of_{row.name}" if row.name else ""
        quantity = "interval" if row.of_numbers else "set"
        values[f"{quantity}_coverage{suffix}"] = row.coverage.value
        values[f"{quantity}_coverage_low{suffix}"] = row.coverage.low
        values[f"{quantity}_coverage_high{suffix}"] = row.coverage.high
        if row.of_numbers:
            values[f"interval_width{suffix}"] = row.size
        elif not row.name:
            values |= {"set_size": row.size, "sets_of_one_class": row.one_class}
    return values
