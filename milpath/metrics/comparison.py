"""Paired tests of two methods on the same folds or the same bags."""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from scipy import stats

from milpath.metrics.evaluated_bags import Outcomes
from milpath.metrics.intervals import resample_weights
from milpath.metrics.weighted_metrics import metric_function

Array = NDArray[np.float64]


@dataclass(frozen=True)
class PairedTest:
    """The difference between two methods and the result of a paired test.

    Attributes:
        difference: First minus second.
        p_value: Two-sided.
        low: Lower end of the 95% interval of the difference.
        high: Upper end.
        name: Name of the test.
    """

    difference: float
    p_value: float
    low: float
    high: float
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
    differences = np.asarray(first, dtype=np.float64) - np.asarray(second, dtype=np.float64)
    count = len(differences)
    if count < 2 or not np.isfinite(differences).all():
        raise ValueError(f"a paired test over folds needs at least 2 pairs of finite values, got {count}")
    if test_train_ratio <= 0:
        raise ValueError(f"test_train_ratio must be positive, got {test_train_ratio}")
    mean = float(differences.mean())
    error = float(np.sqrt((1 / count + test_train_ratio) * differences.var(ddof=1)))
    name = "corrected resampled t-test"
    if error == 0:
        return PairedTest(mean, 1.0 if mean == 0 else 0.0, mean, mean, name)
    reach = float(stats.t.ppf(0.975, count - 1)) * error
    p_value = float(2 * stats.t.sf(abs(mean) / error, count - 1))
    return PairedTest(mean, p_value, mean - reach, mean + reach, name)


def paired_bootstrap_test(
    first: Outcomes, second: Outcomes, metric: str, num_resamples: int = 1000, seed: int = 0
) -> PairedTest:
    """Compare two methods on the same bags; both are evaluated on each resample.

    p = 2 min(#{d* <= 0} + 1, #{d* >= 0} + 1) / (resamples + 1), at most 1

    Args:
        first: Outcomes of the first method; its groups are drawn together. second: Outcomes of the second method, on
            the same bags in the same order.
        metric: Name in `milpath.metrics.weighted_metrics.METRICS`.
        num_resamples: Number of resamples; no p-value is below 2 / (resamples + 1).
        seed: Seed of the resamples. Raises: ValueError: If the labels differ or no resample defines the metric.

    References:
        Efron and Tibshirani. An introduction to the bootstrap. 1993, sections 8.3 and 15.4.
        Davison and Hinkley. Bootstrap methods and their application. 1997, eq. 4.11 (the added one).
    """
    _require_same_bags(first.labels, second.labels)
    function = metric_function(metric)
    portions = [
        function(first, weights) - function(second, weights)
        for weights in resample_weights(first.num_bags, first.groups, num_resamples, seed)
    ]
    differences = np.concatenate(portions)
    differences = differences[np.isfinite(differences)]
    if not len(differences):
        raise ValueError(f"{metric} is undefined on all {num_resamples} resamples of {first.num_bags} bags")
    tail = min((differences <= 0).sum(), (differences >= 0).sum())
    low, high = np.quantile(differences, [0.025, 0.975])
    observed = float(function(first) - function(second))
    p_value = min(1.0, 2 * float(tail + 1) / (len(differences) + 1))
    return PairedTest(observed, p_value, float(low), float(high), "paired bootstrap")


def delong_test(positive: NDArray[np.bool_], first: Array, second: Array) -> PairedTest:
    """Compare the AUROC of two scores of the same independent bags.

    z = (A1 - A2) / sqrt(var(V10_1 - V10_2) / m + var(V01_1 - V01_2) / n), over m positive and n negative bags. V10 of a
    positive bag is the share of negatives with a lower score, V01 of a negative bag the share of positives with a
    higher score; ties count one half.

    Args:
        positive: `(bags,)`.
        first: `(bags,)` scores of the first method.
        second: `(bags,)` scores of the second.

    Raises:
        ValueError: If there are fewer than two positive or two negative bags.

    References:
        DeLong, DeLong and Clarke-Pearson. Comparing the areas under two or more correlated receiver operating
        characteristic curves. Biometrics 44, 1988, eq. 5 and 6.
        Sun and Xu. Fast implementation of DeLong's algorithm. IEEE Signal Processing Letters 21, 2014 (by midranks).
    """
    num_positive, num_negative = int(positive.sum()), int((~positive).sum())
    if min(num_positive, num_negative) < 2:
        raise ValueError(
            f"DeLong's test needs at least 2 bags of each class, got {num_positive} positive, {num_negative} negative"
        )
    beats, beaten = zip(*(_placements(positive, score) for score in (first, second)), strict=True)
    difference = float(beats[0].mean() - beats[1].mean())
    variance = (beats[0] - beats[1]).var(ddof=1) / num_positive + (beaten[0] - beaten[1]).var(ddof=1) / num_negative
    error = float(np.sqrt(variance))
    if error == 0:
        return PairedTest(difference, 1.0 if difference == 0 else 0.0, difference, difference, "DeLong")
    reach = float(stats.norm.ppf(0.975)) * error
    p_value = float(2 * stats.norm.sf(abs(difference) / error))
    return PairedTest(difference, p_value, difference - reach, difference + reach, "DeLong")


def _placements(positive: NDArray[np.bool_], score: Array) -> tuple[Array, Array]:
    """Return the share of negatives below each positive, and the share of positives above each negative."""
    overall = stats.rankdata(score)
    among_positives = stats.rankdata(score[positive])
    among_negatives = stats.rankdata(score[~positive])
    beats = (overall[positive] - among_positives) / (~positive).sum()
    beaten = 1 - (overall[~positive] - among_negatives) / positive.sum()
    return beats, beaten


def _require_same_bags(first: NDArray[np.int64], second: NDArray[np.int64]) -> None:
    """Refuse outcomes of different bags."""
    if len(first) != len(second) or (first != second).any():
        raise ValueError(
            f"a paired test needs the same bags in the same order; their labels differ ({len(first)} and {len(second)} bags)"
        )
