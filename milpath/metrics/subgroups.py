"""Results on subgroups of the bags: by the values of a column, and on ISUP grades by provider."""

from collections.abc import Sequence
from dataclasses import dataclass, replace

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from milpath.metrics.evaluated_bags import EvaluatedBags, Outcomes
from milpath.metrics.intervals import Interval, metric_intervals
from milpath.metrics.ranking import auroc
from milpath.metrics.shortcuts.group_differences import (
    GroupDifference,
    adjusted_together,
    group_differences,
    in_one_sentence,
)
from milpath.metrics.survival.evaluated_times import EvaluatedTimes
from milpath.metrics.weighted_metrics import quadratic_kappa

Array = NDArray[np.float64]


# Names of provider, scanner, grade and slide group in the data sources of this library.
KNOWN_COLUMNS = ("data_provider", "scanner", "isup_grade", "tma_group")
# What bags with an empty cell are called.
NO_VALUE = "no value"
# Columns with more values are not tabulated.
MAX_VALUES = 20
# Concordance compares all pairs of bags, a thousand times for each value: about a second per value with 2,000 of them.
MAX_TIMES = 3000


@dataclass(frozen=True)
class GradeResult:
    """Agreement of predicted and true grades on a set of slides.

    Attributes:
        name: "all", or the provider.
        num_bags: Number of slides.
        quadratic_kappa: Quadratic-weighted kappa of the grades; `None` if all slides have one grade.
        accuracy: Share of slides with the correct grade.
        malignant_auroc: AUROC of grade >= 1 against grade 0; `None` if one of them is absent.
    """

    name: str
    num_bags: int
    quadratic_kappa: float | None
    accuracy: float | None
    malignant_auroc: float | None


def grade_results(
    grades: NDArray[np.int64],
    predicted: NDArray[np.int64],
    malignant_score: Array,
    providers: NDArray[np.str_] | None = None,
    num_grades: int = 6,
) -> list[GradeResult]:
    """Return the results over all slides and for each provider.

    Args:
        grades: `(bags,)`, 0..num_grades-1.
        predicted: `(bags,)` predicted grade.
        malignant_score: `(bags,)`, higher means more likely grade >= 1: one minus the probability of grade 0, or an
            expected grade.
        providers: `(bags,)`; `None` gives only the row over all.
        num_grades: Six for ISUP, which counts benign as 0.

    References:
        Bulten et al. Artificial intelligence for diagnosis and Gleason grading of prostate cancer: the PANDA challenge.
        Nature Medicine 28, 2022 (quadratic-weighted kappa, per provider).

    Example:
        >>> grades = np.array([0, 1, 5, 0])
        >>> grade_results(grades, grades, grades.astype(float))[0].quadratic_kappa
        1.0
    """
    everything = [("all", np.ones(len(grades), dtype=bool))]
    each = [] if providers is None else [(str(name), providers == name) for name in np.unique(providers)]
    return [
        _result(name, grades[chosen], predicted[chosen], malignant_score[chosen], num_grades)
        for name, chosen in everything + each
    ]


def _result(
    name: str, grades: NDArray[np.int64], predicted: NDArray[np.int64], score: Array, num_grades: int
) -> GradeResult:
    """Return the results of a subset of slides."""
    # The kappa depends only on labels and predicted grades; the probabilities only give the number of grades.
    outcomes = EvaluatedBags(grades, np.zeros((len(grades), num_grades)), predicted)
    return GradeResult(
        name=name,
        num_bags=len(grades),
        quadratic_kappa=_defined(quadratic_kappa(outcomes)),
        accuracy=_defined(np.mean(grades == predicted) if len(grades) else np.nan),
        malignant_auroc=_defined(auroc(grades >= 1, score)),
    )


def _defined(value: Array | np.floating | float) -> float | None:
    """Return a number, or `None` for NaN."""
    return float(value) if np.isfinite(value) else None


@dataclass(frozen=True)
class Subgroup:
    """Results on the bags with one value of a column.

    Attributes:
        value: The value.
        num_bags: Bags that have it.
        intervals: One interval per metric of the table; its values are `None` if the metric is undefined.
    """

    value: str
    num_bags: int
    intervals: tuple[Interval, ...]


@dataclass(frozen=True)
class SubgroupTable:
    """Results by the values of one column.

    Attributes:
        column: Name of the column.
        metrics: Names of the metrics.
        rows: One row per value, sorted.
        differences: Of the first metric between each value and the others; empty if that was not tested.
        untested: Why it was not, in a sentence; empty if it was, or there is nothing to test.
    """

    column: str
    metrics: tuple[str, ...]
    rows: tuple[Subgroup, ...]
    differences: tuple[GroupDifference, ...] = ()
    untested: str = ""

    def verdict(self, metric_title: str) -> str:
        """Return whether the first metric differs between the values beyond chance, or why that was not tested."""
        return self.untested or in_one_sentence(self.differences, metric_title)


def subgroup_tables(
    outcomes: Outcomes,
    bags: pd.DataFrame,
    metrics: Sequence[str],
    columns: Sequence[str] | None = None,
    num_resamples: int = 1000,
    seed: int = 0,
) -> list[SubgroupTable]:
    """Return a table for each column with 2 to 20 different values.

    Args:
        outcomes: Evaluated bags of one split.
        bags: One row per bag, in the same order.
        metrics: Names of the metrics of the table.
        columns: Columns to group by; `None` takes the known ones that exist.
        num_resamples: Number of resamples, and of permutations of the values.
        seed: Seed of both.

    Raises:
        ValueError: If a requested column does not exist.
    """
    if columns is None:
        columns = [name for name in KNOWN_COLUMNS if name in bags]
    if missing := [name for name in columns if name not in bags]:
        raise ValueError(f"bags have no column {missing[0]!r}; they have {', '.join(map(str, bags.columns))}")
    metrics = tuple(metrics)
    tables = []
    for column in columns:
        values = _texts_of(bags[column])
        kinds = sorted(np.unique(values))
        if not 2 <= len(kinds) <= MAX_VALUES:
            continue
        rows = []
        for kind in kinds:
            chosen = np.flatnonzero(values == kind)
            intervals = metric_intervals(outcomes.part(chosen), metrics, num_resamples, seed=seed)
            rows.append(Subgroup(str(kind), len(chosen), tuple(intervals[name] for name in metrics)))
        table = _without_empty_columns(SubgroupTable(column, metrics, tuple(rows)))
        if table.metrics and isinstance(outcomes, EvaluatedTimes) and outcomes.num_bags > MAX_TIMES:
            why = f"Whether they differ by {column.replace('_', ' ')} is not tested with more than {MAX_TIMES:,} bags."
            table = replace(table, untested=why)
        elif table.metrics:
            found = group_differences(
                outcomes, column, values, table.metrics[0], num_resamples, num_resamples, seed=seed
            )
            why = ""
            if all(each.p_value is None for each in found) and any(each.difference.value is not None for each in found):
                name = column.replace("_", " ")
                why = (
                    f"Whether they differ by {name} cannot be tested by exchanging values between bags that are alike."
                )
            table = replace(table, differences=tuple(found), untested=why)
        tables.append(table)
    together = iter(adjusted_together([each for table in tables for each in table.differences]))
    return [replace(table, differences=tuple(next(together) for _ in table.differences)) for table in tables]


def grade_rows(outcomes: EvaluatedBags, bags: pd.DataFrame | None) -> list[GradeResult]:
    """Return the results on ISUP grades, overall and by provider; empty if the classes are not the six grades."""
    if outcomes.num_classes != 6:
        return []
    providers = None if bags is None or "data_provider" not in bags else _texts_of(bags["data_provider"])
    return grade_results(outcomes.labels, outcomes.predicted, 1 - outcomes.probabilities[:, 0], providers)


def _texts_of(cells: pd.Series) -> NDArray[np.str_]:
    """Return the cells of a column as texts; pandas would cut all of them to the shortest if one is empty."""
    known = cells.notna().to_numpy()
    if pd.api.types.is_float_dtype(cells) and (cells[known] % 1 == 0).all():
        cells = cells.astype("Int64")
    return np.array([str(value) if there else NO_VALUE for value, there in zip(cells, known, strict=True)], dtype=str)


def _without_empty_columns(table: SubgroupTable) -> SubgroupTable:
    """Remove metrics that are undefined in every row, such as AUROC by grade."""
    kept = [n for n in range(len(table.metrics)) if any(row.intervals[n].value is not None for row in table.rows)]
    rows = tuple(Subgroup(row.value, row.num_bags, tuple(row.intervals[n] for n in kept)) for row in table.rows)
    return SubgroupTable(table.column, tuple(table.metrics[n] for n in kept), rows)
