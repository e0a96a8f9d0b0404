"""Uncertainty of metrics: bootstrap intervals over bags or groups of bags, and standard errors over folds."""

import math
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass, replace
from statistics import NormalDist

import numpy as np
from numpy.typing import NDArray

from milpath.metrics.evaluated_bags import EvaluatedBags, Outcomes
from milpath.metrics.evaluated_several import EvaluatedSeveral
from milpath.metrics.weighted_metrics import metric_function

Array = NDArray[np.float64]
# Resamples are drawn in chunks of about this many weights (16 MB), for any number of bags.
PORTION = 2_000_000


@dataclass(frozen=True)
class Interval:
    """A value with its bootstrap interval.

    Attributes:
        value: Value on the original bags; `None` if the metric is undefined on them.
        low: Lower end; `None` if fewer than half of the resamples define the metric, or if all of them agree. Where the
            metric is the share of bags that are right and all are (or none is), it is Wilson's interval: seven correct
            predictions do not show that no other bag could be predicted wrongly.
        high: Upper end; `None` likewise.
        num_undefined: Resamples omitted because the metric is undefined on them (only one class).
    """

    value: float | None
    low: float | None
    high: float | None
    num_undefined: int = 0


def resample_weights(
    num_bags: int, groups: NDArray[np.str_] | None = None, num_resamples: int = 1000, seed: int = 0
) -> Iterator[Array]:
    """Draw bags, or whole groups of bags, with replacement, and return how often each bag was drawn.

    Args:
        num_bags: Number of bags.
        groups: `(bags,)` group of each bag (patient): a group is drawn as a whole, because its bags are not
            independent. `None` draws single bags.
        num_resamples: Number of resamples.
        seed: The same seed gives the same resamples, so that two methods can be compared on them.

    Yields:
        `(resamples of this chunk, bags)`.

    Raises:
        ValueError: If there are no bags or no resamples.
    """
    if num_bags < 1 or num_resamples < 1:
        raise ValueError(f"a bootstrap needs bags and resamples, got {num_bags} and {num_resamples}")
    units = np.arange(num_bags) if groups is None else np.unique(groups, return_inverse=True)[1].reshape(-1)
    num_units = int(units.max()) + 1
    generator = np.random.default_rng(seed)
    portion = max(1, PORTION // max(num_bags, num_units))
    for start in range(0, num_resamples, portion):
        size = min(portion, num_resamples - start)
        drawn = generator.integers(num_units, size=(size, num_units)) + np.arange(size)[:, None] * num_units
        counts = np.bincount(drawn.ravel(), minlength=size * num_units).reshape(size, num_units)
        yield counts[:, units].astype(np.float64)


def bootstrap_interval(
    statistic: Callable[[Array | None], Array],
    num_bags: int,
    groups: NDArray[np.str_] | None = None,
    num_resamples: int = 1000,
    confidence: float = 0.95,
    seed: int = 0,
) -> Interval:
    """Return a statistic and its percentile bootstrap interval.

    Args:
        statistic: Function from weights `(resamples, bags)` to values `(resamples,)`; called with `None` for the value
            on the original bags.
        num_bags: Number of bags.
        groups: `(bags,)` groups that are drawn together; `None` draws single bags.
        num_resamples: Number of resamples.
        confidence: Confidence level in (0, 1).
        seed: Seed of the resamples.

    References:
        Efron and Tibshirani. An introduction to the bootstrap. 1993, section 13.3 (percentile interval).

    Example:
        >>> from functools import partial
        >>> from milpath.metrics.ranking import auroc
        >>> positive, scores = np.arange(200) % 3 == 0, np.arange(200) % 7 + 3.0 * (np.arange(200) % 3 == 0)
        >>> interval = bootstrap_interval(partial(auroc, positive, scores), 200)
        >>> interval.low < interval.value < interval.high
        True
    """
    value = float(statistic(None))
    portions = [statistic(weights) for weights in resample_weights(num_bags, groups, num_resamples, seed)]
    return percentile_interval(value, np.concatenate(portions), confidence)


def metric_intervals(
    outcomes: Outcomes,
    names: Iterable[str],
    num_resamples: int = 1000,
    confidence: float = 0.95,
    seed: int = 0,
) -> dict[str, Interval]:
    """Return metrics with bootstrap intervals, all on the same resamples; groups of the outcomes are drawn together.

    Args:
        outcomes: Evaluated bags of one split.
        names: Names in `milpath.metrics.weighted_metrics.METRICS`.
        num_resamples: Number of resamples.
        confidence: Confidence level in (0, 1).
        seed: Seed of the resamples.

    Returns:
        Metric name to interval.
    """
    found = resampled_metrics(outcomes, names, num_resamples, seed)
    return {name: interval_of_metric(name, outcomes, *values, confidence) for name, values in found.items()}


def resampled_metrics(
    outcomes: Outcomes, names: Iterable[str], num_resamples: int = 1000, seed: int = 0
) -> dict[str, tuple[float, Array]]:
    """Return the value of each metric and its values on resamples, `(resamples,)`, which depend on the seed alone.

    Args:
        outcomes: Evaluated bags of one split.
        names: As in `metric_intervals`.
        num_resamples: Number of resamples.
        seed: Seed of the resamples.
    """
    metrics = {name: metric_function(name) for name in names}
    resampled: dict[str, list[Array]] = {name: [] for name in metrics}
    for weights in resample_weights(outcomes.num_bags, outcomes.groups, num_resamples, seed):
        for name, metric in metrics.items():
            resampled[name].append(metric(outcomes, weights))
    return {name: (float(metric(outcomes)), np.concatenate(resampled[name])) for name, metric in metrics.items()}


def interval_of_metric(
    name: str, outcomes: Outcomes, value: float, resampled: Array, confidence: float = 0.95
) -> Interval:
    """Return the interval of a metric from its resampled values; Wilson's where a share of bags is 0 or 1.

    Args:
        name: Name of the metric.
        outcomes: The evaluated bags.
        value: Value on them.
        resampled: `(resamples,)` as of `resampled_metrics`.
        confidence: Confidence level in (0, 1).
    """
    interval = percentile_interval(value, resampled, confidence)
    if interval.low is None and interval.value in (0.0, 1.0) and (count := _num_judged(name, outcomes)):
        low, high = wilson(interval.value, count, confidence)
        return replace(interval, low=low, high=high)
    return interval


def wilson(share: float, count: int, confidence: float = 0.95) -> tuple[float, float]:
    """Return Wilson's interval of a share, which has a width where all of them, or none, are counted.

    Args:
        share: In [0, 1].
        count: Number of independent trials, >= 1.
        confidence: Confidence level in (0, 1).

    References:
        Wilson. Probable inference, the law of succession, and statistical inference. JASA 22, 1927.

    Example:
        >>> [round(end, 3) for end in wilson(1.0, 40)]
        [0.912, 1.0]
    """
    z = NormalDist().inv_cdf((1 + confidence) / 2)
    middle, scale = share + z * z / (2 * count), 1 + z * z / count
    reach = z * math.sqrt(share * (1 - share) / count + z * z / (4 * count * count))
    # Of none, or all, one end is exactly the share, which rounding would miss by a hair.
    low, high = (0.0 if share == 0 else (middle - reach) / scale), (1.0 if share == 1 else (middle + reach) / scale)
    return max(0.0, low), min(1.0, high)


def _num_judged(name: str, outcomes: Outcomes) -> int:
    """Return of how many independent bags, or groups of bags, a metric is the share that is right; 0 for other metrics."""
    target, _, of_one = name.rpartition("/")
    if target and isinstance(outcomes, EvaluatedSeveral):
        return _num_judged(of_one, outcomes.of(target))
    if not isinstance(outcomes, EvaluatedBags):
        return 0
    if name == "accuracy":
        chosen = np.ones(outcomes.num_bags, dtype=bool)
    elif outcomes.positive_class is not None and name in ("sensitivity", "specificity"):
        chosen = (outcomes.labels == outcomes.positive_class) == (name == "sensitivity")
    else:
        return 0
    return int(chosen.sum()) if outcomes.groups is None else len(np.unique(outcomes.groups[chosen]))


def mean_and_standard_error(values: Iterable[float]) -> tuple[float | None, float | None]:
    """Return the mean over folds and its standard error, s / sqrt(n) with n - 1 in s.

    Returns:
        Mean (`None` without values) and standard error (`None` with fewer than two values).

    Example:
        >>> mean_and_standard_error([0.8, 0.9, 1.0])[0]
        0.9
    """
    array = np.asarray(list(values), dtype=np.float64)
    if len(array) == 0:
        return None, None
    error = float(array.std(ddof=1) / np.sqrt(len(array))) if len(array) > 1 else None
    return float(array.mean()), error


def percentile_interval(value: float, resampled: Array, confidence: float = 0.95) -> Interval:
    """Return the percentile interval of resampled values, `(resamples,)`, with equal shares of them on both sides."""
    defined = resampled[np.isfinite(resampled)]
    num_undefined = len(resampled) - len(defined)
    if not np.isfinite(value) or num_undefined > len(resampled) / 2:
        return Interval(value if np.isfinite(value) else None, None, None, num_undefined)
    low, high = np.quantile(defined, [(1 - confidence) / 2, (1 + confidence) / 2])
    # Weights of resamples add up in floating point: resamples that agree may differ in their last digits. A few others, such
    # as those without one of the classes, give the rest no width.
    if high - low <= max(1e-9 * float(np.abs(defined).max()), 1e-14):
        return Interval(value, None, None, num_undefined)
    return Interval(value, float(low), float(high), num_undefined)
