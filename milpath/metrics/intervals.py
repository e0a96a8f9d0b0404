"""Uncertainty of metrics: bootstrap intervals over bags or groups of bags, and standard errors over folds."""

from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from milpath.metrics.evaluated_bags import Outcomes
from milpath.metrics.weighted_metrics import metric_function

Array = NDArray[np.float64]
# Resamples are drawn in chunks of about this many weights (16 MB), for any number of bags.
PORTION = 2_000_000


@dataclass(frozen=True)
class Interval:
    """A value with its bootstrap interval.

    Attributes:
        value: Value on the original bags; `None` if the metric is undefined on them.
        low: Lower end; `None` if fewer than half of the resamples define the metric, or if all of them agree: seven correct
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
    return _percentiles(value, np.concatenate(portions), confidence)


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
    metrics = {name: metric_function(name) for name in names}
    resampled: dict[str, list[Array]] = {name: [] for name in metrics}
    for weights in resample_weights(outcomes.num_bags, outcomes.groups, num_resamples, seed):
        for name, metric in metrics.items():
            resampled[name].append(metric(outcomes, weights))
    return {
        name: _percentiles(float(metric(outcomes)), np.concatenate(resampled[name]), confidence)
        for name, metric in metrics.items()
    }


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


def _percentiles(value: float, resampled: Array, confidence: float) -> Interval:
    """Return the percentile interval, with equal shares of resamples on both sides."""
    defined = resampled[np.isfinite(resampled)]
    num_undefined = len(resampled) - len(defined)
    if not np.isfinite(value) or num_undefined > len(resampled) / 2:
        return Interval(value if np.isfinite(value) else None, None, None, num_undefined)
    if defined.min() == defined.max():
        return Interval(value, None, None, num_undefined)
    low, high = np.quantile(defined, [(1 - confidence) / 2, (1 + confidence) / 2])
    return Interval(value, float(low), float(high), num_undefined)
