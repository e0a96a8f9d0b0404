"""Methods compared on the same folds: mean, standard error, interval over bags, paired test; failed folds are named."""

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field

import numpy as np
from numpy.typing import NDArray

from milpath.metrics.comparison import PairedTest, corrected_resampled_t_test
from milpath.metrics.evaluated_bags import Outcomes
from milpath.metrics.intervals import Interval, bootstrap_interval, mean_and_standard_error
from milpath.metrics.weighted_metrics import metric_function

Array = NDArray[np.float64]


@dataclass(frozen=True)
class FoldResult:
    """The test split of one training, or why there is none.

    Attributes:
        method: Name of the method.
        repeat: 0-based repeat of the cross-validation.
        fold: 0-based fold.
        bag_ids: Name of each bag of the test split.
        outcomes: What was predicted of them; None if the training failed.
        num_train: Bags the training split had.
        failure: Why the training failed; None if it did not.
    """

    method: str
    repeat: int
    fold: int
    bag_ids: Sequence[str] = ()
    outcomes: Outcomes | None = None
    num_train: int = 0
    failure: str | None = None

    @property
    def name(self) -> str:
        """What a person calls it."""
        return f"repeat {self.repeat}, fold {self.fold}"


@dataclass(frozen=True)
class MethodRow:
    """A row of the table.

    Attributes:
        method: Name of the method.
        mean: Over the folds that are done; None if there is none.
        standard_error: Of that mean, s / sqrt(folds); None with fewer than two.
        interval: Bootstrap over the bags of all folds, groups drawn together; the same bags in every fold and repeat.
        test: Against the reference method on the folds that both have; None for the reference itself.
        num_planned: Folds times repeats.
        values: Repeat and fold to value.
        failed: Name of each fold that failed, and why: no part of the mean.
        undefined: Name of each fold where the metric is undefined (one class only): no part of the mean.
        published: The figure to compare with, if there is one.
    """

    method: str
    mean: float | None
    standard_error: float | None
    interval: Interval | None
    test: PairedTest | None
    num_planned: int
    values: Mapping[tuple[int, int], float] = field(default_factory=dict)
    failed: tuple[str, ...] = ()
    undefined: tuple[str, ...] = ()
    published: float | None = None

    @property
    def num_done(self) -> int:
        """Folds that count."""
        return len(self.values)


@dataclass(frozen=True)
class MethodTable:
    """A table of methods.

    Attributes:
        title: What was measured on what.
        metric: Name of the metric.
        reference: The method that the others are tested against.
        rows: One a method, in the order given.
        same_test_bags: Whether folds of one repeat test bags of the same names: no cross-validation.
    """

    title: str
    metric: str
    reference: str
    rows: tuple[MethodRow, ...]
    same_test_bags: bool = False

    @property
    def complete(self) -> bool:
        """Whether every fold of every method counts."""
        return all(row.num_done == row.num_planned for row in self.rows)

    @property
    def notes(self) -> list[str]:
        """What a reader must know to read the numbers, failed folds by name."""
        notes = [
            "Mean and standard error over the folds of all repeats; repeats share bags: the error is on the small side.",
            "Interval: 95% percentile bootstrap over bags, or over groups where bags have one; the same in every repeat. "
            "A resample leaves out the folds on which it does not define the metric.",
            f"p: corrected resampled t-test (Nadeau and Bengio 2003, eq. 9) against {self.reference}, two-sided, on the "
            "folds that both have; not adjusted for the number of methods.",
        ]
        if self.same_test_bags:
            notes.append(
                "Test bags have the same names in every fold: the data bring their own split, and folds differ in seeds and "
                "what is drawn from them. The standard error is that of such runs; p, made for folds that overlap, is large."
            )
        for row in self.rows:
            notes += [f"{row.method}: FAILED {name}" for name in row.failed]
            notes += [
                f"{row.method}: {self.metric} is undefined on {name}, which has one class only"
                for name in row.undefined
            ]
        return notes


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
    """Return the table of methods over the folds of repeated cross-validation.

    Args:
        results: Every fold of every method, failed ones too.
        metric: Name in `milpath.metrics.weighted_metrics.METRICS`.
        title: What was measured on what.
        reference: The method the others are tested against; None takes the first.
        published: Method to the figure of a publication.
        num_resamples: Of the intervals.
        seed: Of the resamples.

    Raises:
        ValueError: If there is no result, the reference is unknown, or a fold comes twice.
    """
    by_method: dict[str, list[FoldResult]] = {}
    for result in results:
        by_method.setdefault(result.method, []).append(result)
    if not by_method:
        raise ValueError("a table needs the folds of at least one method, and there is none")
    reference = next(iter(by_method)) if reference is None else reference
    if reference not in by_method:
        raise ValueError(f"reference {reference!r} is none of the methods {', '.join(by_method)}")
    _refuse_doubles(by_method)
    values = {method: _values(folds, metric) for method, folds in by_method.items()}
    rows = []
    for method, folds in by_method.items():
        defined = {key: value for key, value in values[method].items() if np.isfinite(value)}
        mean, error = mean_and_standard_error(defined.values())
        rows.append(
            MethodRow(
                method=method,
                mean=mean,
                standard_error=error,
                interval=_interval(folds, metric, num_resamples, seed) if defined else None,
                test=None if method == reference else _test(folds, defined, values[reference]),
                num_planned=len(folds),
                values=defined,
                failed=tuple(f"{fold.name}: {fold.failure}" for fold in folds if fold.outcomes is None),
                undefined=tuple(
                    fold.name for fold in folds if np.isnan(values[method].get((fold.repeat, fold.fold), 0.0))
                ),
                published=(published or {}).get(method),
            )
        )
    same = any(_same_test_bags(folds) for folds in by_method.values())
    return MethodTable(title=title, metric=metric, reference=reference, rows=tuple(rows), same_test_bags=same)


def _same_test_bags(folds: Sequence[FoldResult]) -> bool:
    """Return whether a bag is tested in two folds of a repeat, which a cross-validation never does."""
    tested = [(fold.repeat, bag_id) for fold in folds for bag_id in fold.bag_ids]
    return len(set(tested)) < len(tested)


def _refuse_doubles(by_method: Mapping[str, list[FoldResult]]) -> None:
    """Refuse to count a fold twice."""
    for method, folds in by_method.items():
        keys = [(fold.repeat, fold.fold) for fold in folds]
        if len(set(keys)) != len(keys):
            raise ValueError(f"a fold of {method} comes twice; give each repeat and fold once")


def _values(folds: Sequence[FoldResult], metric: str) -> dict[tuple[int, int], float]:
    """Return the value on each fold that was trained, NaN where the metric is undefined."""
    function = metric_function(metric)
    return {(fold.repeat, fold.fold): float(function(fold.outcomes)) for fold in folds if fold.outcomes is not None}


def _interval(folds: Sequence[FoldResult], metric: str, num_resamples: int, seed: int) -> Interval:
    """Return the interval of the mean over folds when the bags are drawn anew."""
    done = [(fold.bag_ids, fold.outcomes) for fold in folds if fold.outcomes is not None]
    bag_ids = sorted({bag_id for names, _ in done for bag_id in names})
    position = {bag_id: index for index, bag_id in enumerate(bag_ids)}
    places = [np.array([position[bag_id] for bag_id in names]) for names, _ in done]
    by_bag = {
        bag_id: str(group)
        for names, outcomes in done
        if outcomes.groups is not None
        for bag_id, group in zip(names, outcomes.groups, strict=True)
    }
    groups = np.array([by_bag[bag_id] for bag_id in bag_ids]) if len(by_bag) == len(bag_ids) else None
    function = metric_function(metric)

    def statistic(weights: Array | None) -> Array:
        each = [
            function(outcomes, None if weights is None else weights[:, place])
            for place, (_, outcomes) in zip(places, done, strict=True)
        ]
        values = np.stack(each)
        defined = np.isfinite(values)
        count = defined.sum(axis=0)
        total = np.where(defined, values, 0.0).sum(axis=0)
        return np.asarray(np.divide(total, count, out=np.full(total.shape, np.nan), where=count > 0))

    return bootstrap_interval(statistic, len(bag_ids), groups, num_resamples, seed=seed)


def _test(
    folds: Sequence[FoldResult], own: Mapping[tuple[int, int], float], others: Mapping[tuple[int, int], float]
) -> PairedTest | None:
    """Return the paired test on the folds that both methods have; None with fewer than two."""
    shared = [key for key in own if np.isfinite(others.get(key, np.nan))]
    ratios = [
        fold.outcomes.num_bags / fold.num_train
        for fold in folds
        if fold.outcomes is not None and fold.num_train > 0 and (fold.repeat, fold.fold) in shared
    ]
    if len(shared) < 2 or not ratios:
        return None
    first, second = [own[key] for key in shared], [others[key] for key in shared]
    return corrected_resampled_t_test(first, second, float(np.mean(ratios)))
