"""Comparison of methods on the same folds: mean, standard error, bootstrap interval, paired test and failed folds."""

from collections import defaultdict
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field

import numpy as np

from milpath.metrics.comparison import PairedTest
from milpath.metrics.intervals import Interval, mean_and_standard_error
from milpath.reports.method_tables.run_design import (
    Design,
    FoldResult,
    design_of,
    difference_of_seeds,
    interval_of,
    paired_test_of,
    values_of,
)


@dataclass(frozen=True)
class MethodRow:
    """One row of the table.

    Attributes:
        method: Name of the method.
        mean: Mean over the finished folds; None if there are none.
        standard_error: Standard error of the mean, s / sqrt(folds); None with fewer than two folds.
        interval: Bootstrap interval over the bags of all folds, groups drawn together; a resample draws the same bags in
            every fold and repeat.
        test: Paired test against the reference method on the folds that both have; None for the reference itself.
        difference: Mean minus that of the reference with its paired bootstrap interval over bags, for seeds of one split;
            otherwise None.
        num_planned: Number of folds times repeats.
        values: (repeat, fold) to value.
        failed: Name of each failed fold with the reason; excluded from the mean.
        undefined: Name of each fold where the metric is undefined (one class only); excluded from the mean.
        published: Published value to compare with, if any.
        beside: Mean and standard error of the metric of `MethodTable.beside` over the finished folds.
    """

    method: str
    mean: float | None
    standard_error: float | None
    interval: Interval | None
    test: PairedTest | None
    num_planned: int
    difference: Interval | None = None
    values: Mapping[tuple[int, int], float] = field(default_factory=dict)
    failed: tuple[str, ...] = ()
    undefined: tuple[str, ...] = ()
    published: float | None = None
    beside: tuple[float | None, float | None] = (None, None)

    @property
    def num_done(self) -> int:
        """Number of folds included in the mean."""
        return len(self.values)


@dataclass(frozen=True)
class MethodTable:
    """A comparison of methods.

    Attributes:
        title: Title of the table.
        metric: Name of the metric.
        reference: The method the others are tested against.
        rows: One row per method, in the order given.
        design: How the runs of a method differ.
        warning: What the data say against themselves, the first of the notes; empty for tissue.
        grouping: How many groups (patients) the bags are of, in words; empty if bags have no groups.
        beside: Balanced accuracy for AUROC, which says nothing about the calls; empty for other metrics.
    """

    title: str
    metric: str
    reference: str
    rows: tuple[MethodRow, ...]
    design: Design = Design.FOLDS
    warning: str = ""
    beside: str = ""
    grouping: str = ""

    @property
    def complete(self) -> bool:
        """Whether every fold of every method is included."""
        return all(row.num_done == row.num_planned for row in self.rows)

    @property
    def notes(self) -> list[str]:
        """Notes on how to read the numbers, with the failed folds by name."""
        notes = [f"{self.warning[0].upper()}{self.warning[1:]}."] if self.warning else []
        notes += _notes_of(self.design, self.reference)
        notes += [
            f"{row.method} minus {self.reference}: {_with_interval(row.difference)}, paired bootstrap over bags, or over "
            "groups if bags have them."
            for row in self.rows
            if row.difference is not None
        ]
        if self.grouping:
            notes.append(self.grouping)
        for row in self.rows:
            notes += [f"{row.method}: FAILED {name}" for name in row.failed]
            notes += [
                f"{row.method}: {self.metric} is undefined on {name}, which the mean leaves out"
                for name in row.undefined
            ]
        return notes


def _with_interval(found: Interval) -> str:
    ends = "no interval" if found.low is None else f"{found.low:.3f} to {found.high:.3f}"
    return f"{found.value:.3f} ({ends})"


def _notes_of(design: Design, reference: str) -> list[str]:
    """Return how mean, interval and p are to be read."""
    bootstrap = (
        "Interval: 95% percentile bootstrap over bags, or over groups if bags have them; the same resample in every "
    )
    if design is Design.FOLDS:
        return [
            "Mean and standard error over the folds of all repeats. Repeats share bags, so the standard error is too small.",
            f"{bootstrap}repeat. Folds where a resample leaves the metric undefined are left out.",
            f"p: corrected resampled t-test (Nadeau and Bengio 2003, eq. 9) against {reference}, two-sided, on the "
            "folds that both have; not adjusted for the number of methods.",
        ]
    if design is Design.DRAWS:
        return [
            "Every run draws its own training and test bags. Mean and standard error over these draws.",
            "Interval: 95% interval of Student's t over the draws; none for fewer than three.",
            f"p: paired t-test over the draws that a method and {reference} both have, two-sided; not adjusted for the "
            "number of methods.",
        ]
    if design is Design.UNKNOWN:
        return [
            "Bags of the same names are tested in several runs, and it is not known which of these runs have the same bags. "
            "Mean and standard error over the runs.",
            f"{bootstrap}run, as if bags of one name were the same.",
            "No p: which test fits depends on what the runs share.",
        ]
    return [
        "Every run has the same training and the same test bags: the data define their own split, and runs differ in their "
        "seeds. The standard error is that of the seed alone.",
        f"{bootstrap}run.",
        "No p: other seeds on one split do not show what other bags would give.",
    ]


def compare_methods(
    results: Iterable[FoldResult],
    metric: str,
    *,
    title: str = "",
    reference: str | None = None,
    published: Mapping[str, float] | None = None,
    num_resamples: int = 1000,
    seed: int = 0,
) -> MethodTable:
    """Return the comparison of methods over the folds of repeated cross-validation.

    Args:
        results: Every fold of every method, including failed ones.
        metric: Name in `milpath.metrics.weighted_metrics.METRICS`.
        title: Title of the table.
        reference: The method the others are tested against; None for the first.
        published: Method to its published value.
        num_resamples: Bootstrap resamples of each interval.
        seed: Seed of the resamples.

    Raises:
        ValueError: If there are no results, the reference is unknown, or a fold is given twice.
    """
    by_method: dict[str, list[FoldResult]] = {}
    for result in results:
        by_method.setdefault(result.method, []).append(result)
    if not by_method:
        raise ValueError("a table needs the folds of at least one method, got none")
    reference = next(iter(by_method)) if reference is None else reference
    if reference not in by_method:
        raise ValueError(f"reference must be one of the methods {', '.join(by_method)}, got {reference!r}")
    _refuse_doubles(by_method)
    values = {method: values_of(folds, metric) for method, folds in by_method.items()}
    beside = _metric_of_calls(metric)
    design = max(map(design_of, by_method.values()), key=list(Design).index)
    rows = []
    for method, folds in by_method.items():
        defined = {key: value for key, value in values[method].items() if np.isfinite(value)}
        mean, error = mean_and_standard_error(defined.values())
        rows.append(
            MethodRow(
                method=method,
                mean=mean,
                standard_error=error,
                interval=interval_of(folds, defined, metric, design, num_resamples, seed) if defined else None,
                test=None
                if method == reference
                else paired_test_of(folds, defined, by_method[reference], values[reference], design),
                difference=difference_of_seeds(folds, by_method[reference], metric, num_resamples, seed)
                if design is Design.SEEDS and method != reference
                else None,
                num_planned=len(folds),
                values=defined,
                failed=tuple(f"{fold.name}: {fold.failure}" for fold in folds if fold.outcomes is None),
                undefined=tuple(
                    fold.name for fold in folds if np.isnan(values[method].get((fold.repeat, fold.fold), 0.0))
                ),
                published=(published or {}).get(method),
                beside=mean_and_standard_error(filter(np.isfinite, values_of(folds, beside).values()))
                if beside
                else (None,) * 2,
            )
        )
    return MethodTable(
        title=title,
        metric=metric,
        reference=reference,
        rows=tuple(rows),
        design=design,
        beside=beside,
        grouping=_grouping([fold for folds in by_method.values() for fold in folds]),
    )


def _grouping(folds: Sequence[FoldResult]) -> str:
    """Return how many groups the tested bags are of, and whether each is tested in one fold only, as a note."""
    tested: dict[tuple[str, int, str], set[int]] = defaultdict(set)
    bags: set[str] = set()
    for fold in folds:
        if fold.outcomes is not None:
            if fold.outcomes.groups is None:
                return ""
            bags.update(fold.bag_ids)
            for group in fold.outcomes.groups:
                tested[fold.method, fold.repeat, str(group)].add(fold.fold)
    if not tested:
        return ""
    apart = all(len(numbers) == 1 for numbers in tested.values())
    said = "each group is tested in one fold only" if apart else "some groups are tested in more than one fold"
    return f"{len(bags):,} bags of {len({group for *_, group in tested}):,} groups; {said}."


def _metric_of_calls(metric: str) -> str:
    """Return the metric of the called classes that belongs to a metric of ranks; empty if there is none.

    Example:
        >>> _metric_of_calls("auroc"), _metric_of_calls("grade/auroc"), _metric_of_calls("accuracy")
        ('balanced_accuracy', 'grade/balanced_accuracy', '')
    """
    target, slash, name = metric.rpartition("/")
    return f"{target}{slash}balanced_accuracy" if name == "auroc" else ""


def _refuse_doubles(by_method: Mapping[str, list[FoldResult]]) -> None:
    """Refuse to count a fold twice."""
    for method, folds in by_method.items():
        keys = [(fold.repeat, fold.fold) for fold in folds]
        if len(set(keys)) != len(keys):
            raise ValueError(f"a fold of {method} is given twice; give each repeat and fold once")
