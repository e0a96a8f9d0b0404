"""Paired comparisons: of methods on the same folds, and of networks on the same bags."""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from scipy import stats

from milpath.metrics.evaluated_bags import Outcomes
from milpath.metrics.intervals import Interval, interval_of_metric, percentile_interval, resampled_metrics

# Differences of metrics that are equal but for the rounding of a subtraction.
_ROUNDING = 1e-12


@dataclass(frozen=True)
class PairedTest:
    """The difference between two methods and the result of a paired test.

    Attributes:
        difference: First minus second.
        p_value: Two-sided; `None` if the difference is the same in every fold, which leaves no spread to test it against.
        low: Lower end of the 95% interval of the difference; `None` likewise.
        high: Upper end.
        name: Name of the test.
    """

    difference: float
    p_value: float | None
    low: float | None
    high: float | None
    name: str


def corrected_resampled_t_test(first: Sequence[float], second: Sequence[float], test_train_ratio: float) -> PairedTest:
    """Compare two methods on the folds of repeated cross-validation.

    t = mean(d) / sqrt((1 / n + test_train_ratio) var(d)),  n - 1 degrees of freedom

    The plain paired t-test treats folds as independent, but their training sets overlap, so that it finds differences
    where there are none. The second term corrects for that.

    Args:
        first: The first method's value on each fold of each repeat.
        second: The second method's values, on the same folds in the same order.
        test_train_ratio: Number of test bags divided by the number of training bags of a fold: 1 / (folds - 1) for
            plain k-fold.

    Raises:
        ValueError: If there are fewer than two pairs or the ratio is not positive.

    References:
        Nadeau and Bengio. Inference for the generalization error. Machine Learning 52, 2003, eq. 9.
        Bouckaert and Frank. Evaluating the replicability of significance tests for comparing learning algorithms.
        PAKDD 2004, section 3.2 (repeated cross-validation).

    Example:
        >>> test = corrected_resampled_t_test([0.9, 0.8, 0.95, 0.9], [0.8, 0.75, 0.8, 0.85], test_train_ratio=1 / 3)
        >>> round(test.difference, 4), round(test.p_value, 3)
        (0.0875, 0.096)
    """
    if test_train_ratio <= 0:
        raise ValueError(f"test_train_ratio must be positive, got {test_train_ratio}")
    return _t_test(first, second, test_train_ratio, "corrected resampled t-test")


def paired_t_test(first: Sequence[float], second: Sequence[float]) -> PairedTest:
    """Compare two methods on independent draws of training and test data, where nothing has to be corrected.

    Args:
        first: The first method's value on each draw.
        second: The second method's values, on the same draws in the same order.

    Raises:
        ValueError: If there are fewer than two pairs.

    Example:
        >>> round(paired_t_test([0.9, 0.8, 0.95, 0.9], [0.8, 0.75, 0.8, 0.85]).p_value, 3)
        0.035
    """
    return _t_test(first, second, 0.0, "paired t-test over draws")


def _t_test(first: Sequence[float], second: Sequence[float], shared: float, name: str) -> PairedTest:
    """Return the t-test of paired differences whose mean has the variance (1 / n + shared) var(d)."""
    differences = np.asarray(first, dtype=np.float64) - np.asarray(second, dtype=np.float64)
    count = len(differences)
    if count < 2 or not np.isfinite(differences).all():
        raise ValueError(f"a paired test over folds needs at least 2 pairs of finite values, got {count}")
    mean = float(differences.mean())
    error = float(np.sqrt((1 / count + shared) * differences.var(ddof=1)))
    if not differences.any():
        return PairedTest(0.0, 1.0, 0.0, 0.0, name)
    if np.ptp(differences) <= _ROUNDING:
        return PairedTest(mean, None, None, None, name)
    reach = float(stats.t.ppf(0.975, count - 1)) * error
    p_value = float(2 * stats.t.sf(abs(mean) / error, count - 1))
    return PairedTest(mean, p_value, mean - reach, mean + reach, name)


@dataclass(frozen=True)
class PairedMetric:
    """A metric of several networks on the same bags.

    Attributes:
        name: As in `metrics.json`.
        intervals: Value and bootstrap interval of each network.
        differences: Each network minus the first on the same resamples, `None` for the first; an interval without ends
            means that all resamples agree, or too few define the metric.
    """

    name: str
    intervals: tuple[Interval, ...]
    differences: tuple[Interval | None, ...]


def paired_metrics(
    outcomes: Sequence[Outcomes], names: Iterable[str], num_resamples: int = 1000, seed: int = 0
) -> list[PairedMetric]:
    """Return metrics of several networks and their differences from the first, all on the same resamples of the bags.

    Two networks err on the same difficult bags, so that their difference varies less over resamples than two independent
    values would: overlapping intervals of the values do not show that the networks are equal.

    Args:
        outcomes: The same bags in the same order, evaluated with each network; groups of bags are drawn together.
        names: Names in `milpath.metrics.weighted_metrics.METRICS`.
        num_resamples: Number of resamples.
        seed: Seed of the resamples.

    Raises:
        ValueError: If there are no networks, or the numbers or groups of their bags differ.

    References:
        Efron and Tibshirani. An introduction to the bootstrap. 1993, section 13.3 (percentile interval).
    """
    if len({each.num_bags for each in outcomes}) != 1 or not _same_groups(outcomes):
        raise ValueError("a paired comparison needs the same bags, in the same groups, of every network")
    names = tuple(names)
    found = [resampled_metrics(each, names, num_resamples, seed) for each in outcomes]
    rows = []
    for name in names:
        (first, resampled), *_ = (values[name] for values in found)
        intervals = tuple(
            interval_of_metric(name, each, *values[name]) for each, values in zip(outcomes, found, strict=True)
        )
        differences = tuple(
            percentile_interval(value - first, of_other - resampled)
            for value, of_other in (values[name] for values in found[1:])
        )
        rows.append(PairedMetric(name, intervals, (None, *differences)))
    return rows


def _same_groups(outcomes: Sequence[Outcomes]) -> bool:
    """Return whether every network has its bags in the same groups."""
    first = outcomes[0].groups
    if first is None:
        return all(each.groups is None for each in outcomes)
    return all(each.groups is not None and np.array_equal(each.groups, first) for each in outcomes)


def exact_mcnemar(first: NDArray[np.bool_], second: NDArray[np.bool_]) -> float:
    """Return the two-sided p-value of McNemar's exact test: are two networks right on equally many of the same bags?

    Args:
        first: `(bags,)` whether the first network is right; the bags must be independent.
        second: `(bags,)` whether the second is.

    References:
        McNemar. Note on the sampling error of the difference between correlated proportions. Psychometrika 12, 1947.

    Example:
        >>> right = np.ones(20, dtype=bool)
        >>> round(exact_mcnemar(right, np.arange(20) >= 6), 4)  # 6 bags of which only the first is right, 0.5 ** 5
        0.0312
    """
    only_first, only_second = int((first & ~second).sum()), int((second & ~first).sum())
    if only_first + only_second == 0:
        return 1.0
    return float(stats.binomtest(only_first, only_first + only_second).pvalue)
