"""Results by provider, grade or any other column of the bags."""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import pandas as pd

from milpath.metrics.evaluated_bags import EvaluatedBags
from milpath.metrics.grades import GradeResult, grade_results
from milpath.metrics.intervals import Interval, metric_intervals

# Names of provider, grade and slide group in the data sources of this library.
KNOWN_COLUMNS = ("data_provider", "isup_grade", "tma_group")
# Columns with more values are not tabulated.
MAX_VALUES = 20


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
    """

    column: str
    metrics: tuple[str, ...]
    rows: tuple[Subgroup, ...]


def subgroup_tables(
    outcomes: EvaluatedBags,
    bags: pd.DataFrame,
    metrics: Sequence[str],
    columns: Sequence[str] | None = None,
    num_resamples: int = 1000,
    seed: int = 0,
) -> list[SubgroupTable]:
    """Return a table for each column with 2 to 20 different values.

    Args:
        outcomes: EvaluatedBags of one split.
        bags: One row per bag, in the same order.
        metrics: Names of the metrics of the table.
        columns: Columns to group by; `None` takes the known ones that exist.
        num_resamples: Number of resamples.
        seed: Seed of the resamples.

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
        values = bags[column].astype(str).to_numpy(dtype=str)
        kinds = sorted(np.unique(values))
        if not 2 <= len(kinds) <= MAX_VALUES:
            continue
        rows = []
        for kind in kinds:
            chosen = np.flatnonzero(values == kind)
            intervals = metric_intervals(outcomes.part(chosen), metrics, num_resamples, seed=seed)
            rows.append(Subgroup(str(kind), len(chosen), tuple(intervals[name] for name in metrics)))
        tables.append(_without_empty_columns(SubgroupTable(column, metrics, tuple(rows))))
    return tables


def grade_rows(outcomes: EvaluatedBags, bags: pd.DataFrame | None) -> list[GradeResult]:
    """Return the results on ISUP grades, overall and by provider; empty if the classes are not the six grades."""
    if outcomes.num_classes != 6:
        return []
    providers = None if bags is None or "data_provider" not in bags else bags["data_provider"].to_numpy(dtype=str)
    return grade_results(outcomes.labels, outcomes.predicted, 1 - outcomes.probabilities[:, 0], providers)


def _without_empty_columns(table: SubgroupTable) -> SubgroupTable:
    """Remove metrics that are undefined in every row, such as AUROC by grade."""
    kept = [n for n in range(len(table.metrics)) if any(row.intervals[n].value is not None for row in table.rows)]
    rows = tuple(Subgroup(row.value, row.num_bags, tuple(row.intervals[n] for n in kept)) for row in table.rows)
    return SubgroupTable(table.column, tuple(table.metrics[n] for n in kept), rows)
