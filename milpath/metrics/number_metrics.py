"""Metrics of predicted numbers, each computed in float64 for many weightings of the bags at once."""

from collections.abc import Callable
from functools import partial

import numpy as np
from numpy.typing import NDArray

from milpath.metrics.evaluated_numbers import EvaluatedNumbers
from milpath.metrics.quantile_metrics import QUANTILE_METRICS

Array = NDArray[np.float64]
# Labels whose relative spread is below this are constant up to rounding.
_TINY = 1e-12


def mean_absolute_error(truth: Array, predicted: Array, weights: Array | None = None) -> Array:
    """Return `sum_i w_i |p_i - y_i| / sum_i w_i`, in the units of the labels.

    Args:
        truth: `(bags,)`.
        predicted: `(bags,)`.
        weights: `(..., bags)` >= 0, how often each bag counts; `None` means once.

    Returns:
        `(...)`; NaN without bags.
    """
    return _mean(np.abs(predicted - truth), weights)


def root_mean_squared_error(truth: Array, predicted: Array, weights: Array | None = None) -> Array:
    """Return the square root of the mean squared error, in the units of the labels; arguments as above."""
    return np.sqrt(_mean((predicted - truth) ** 2, weights))


def r2(truth: Array, predicted: Array, weights: Array | None = None) -> Array:
    """Return `1 - sum w (p - y)^2 / sum w (y - mean y)^2`; NaN if all labels with weight are equal."""
    spread = _covariance(truth, truth, weights)
    return 1 - _ratio(_mean((predicted - truth) ** 2, weights), spread, _constant(truth, weights))


def pearson(truth: Array, predicted: Array, weights: Array | None = None) -> Array:
    """Return the linear correlation; NaN if labels or predictions with weight are all equal."""
    norm = np.sqrt(_covariance(truth, truth, weights) * _covariance(predicted, predicted, weights))
    constant = _constant(truth, weights) | _constant(predicted, weights)
    return np.clip(_ratio(_covariance(truth, predicted, weights), norm, constant), -1, 1)


def spearman(truth: Array, predicted: Array, weights: Array | None = None) -> Array:
    """Return the linear correlation of the ranks, ties having their mean rank; arguments as above.

    A bag with weight 2 counts as two bags with the same label and prediction, so that a bootstrap ranks each resample.
    """
    chosen = np.ones(len(truth)) if weights is None else weights
    first, second = _ranks(truth, chosen), _ranks(predicted, chosen)
    norm = np.sqrt(_covariance(first, first, chosen) * _covariance(second, second, chosen))
    constant = _constant(truth, chosen) | _constant(predicted, chosen)
    return np.clip(_ratio(_covariance(first, second, chosen), norm, constant), -1, 1)


_OF_ONE: dict[str, Callable[..., Array]] = {
    "mae": mean_absolute_error,
    "rmse": root_mean_squared_error,
    "r2": r2,
    "pearson": pearson,
    "spearman": spearman,
}
# Without a unit, so that a mean over quantities has a meaning.
WITHOUT_UNIT = ("r2", "pearson", "spearman")


def _over_quantities(name: str, outcomes: EvaluatedNumbers, weights: Array | None = None) -> Array:
    """Return a metric of the only quantity, or its mean over several; undefined if it is for one of them."""
    each = [_of_place(name, place, outcomes, weights) for place in range(len(outcomes.names))]
    return np.asarray(np.mean(each, axis=0))


NUMBER_METRICS: dict[str, Callable[..., Array]] = {name: partial(_over_quantities, name) for name in _OF_ONE}
ALL_NUMBER_METRICS = NUMBER_METRICS | {name: partial(_over_quantities, name) for name in QUANTILE_METRICS}
"""With those of quantiles."""


def metric_of_quantity(name: str) -> Callable[..., Array] | None:
    """Return the metric of one of several quantities, such as "mae_age"; `None` if the name is not of that form."""
    metric, _, quantity = name.partition("_")
    return partial(_of_quantity, metric, quantity) if metric in ALL_NUMBER_METRICS and quantity else None


def _of_quantity(name: str, quantity: str, outcomes: EvaluatedNumbers, weights: Array | None = None) -> Array:
    """Return a metric of the quantity with a name."""
    return _of_place(name, list(outcomes.names).index(quantity), outcomes, weights)


def _of_place(name: str, place: int, outcomes: EvaluatedNumbers, weights: Array | None) -> Array:
    """Return a metric of the quantity at a position."""
    if name in QUANTILE_METRICS:
        return QUANTILE_METRICS[name](outcomes, place, weights)
    return _OF_ONE[name](outcomes.labels[:, place], outcomes.answers[:, place], weights)


def limits_of_agreement(truth: Array, predicted: Array) -> tuple[float, float, float]:
    """Return bias, lower and upper limit: mean of the differences and 1.96 of their standard deviations around it.

    References:
        Bland and Altman. Statistical methods for assessing agreement between two methods of clinical measurement.
        Lancet 327, 1986.
    """
    differences = predicted - truth
    bias, spread = float(differences.mean()), float(differences.std(ddof=1)) if len(differences) > 1 else 0.0
    return bias, bias - 1.96 * spread, bias + 1.96 * spread


def _ranks(values: Array, weights: Array) -> Array:
    """Return the mean rank of each bag in every weighting, `(..., bags)`."""
    order = np.argsort(values, kind="stable")
    starts = np.flatnonzero(np.r_[True, values[order][1:] != values[order][:-1]])
    sizes = np.add.reduceat(weights[..., order], starts, axis=-1)
    middle = np.cumsum(sizes, axis=-1) - sizes / 2 + 0.5
    member = np.zeros(len(values), dtype=np.int64)
    member[order] = np.cumsum(np.isin(np.arange(len(values)), starts)) - 1
    return np.asarray(middle[..., member])


def _mean(values: Array, weights: Array | None) -> Array:
    """Return the weighted mean over bags; NaN without weight."""
    if weights is None:
        weights = np.ones(values.shape[-1])
    total = weights.sum(axis=-1)
    return _ratio((weights * values).sum(axis=-1), total, total == 0)


def _covariance(first: Array, second: Array, weights: Array | None) -> Array:
    """Return the weighted mean of the products of deviations from the weighted means."""
    centred = [values - _mean(values, weights)[..., None] for values in (first, second)]
    return _mean(centred[0] * centred[1], weights)


def _constant(values: Array, weights: Array | None) -> NDArray[np.bool_]:
    """Return whether all values with weight are equal up to rounding, `(...)`."""
    present = np.ones(values.shape[-1], dtype=bool) if weights is None else weights > 0
    high = np.where(present, values, -np.inf).max(axis=-1)
    low = np.where(present, values, np.inf).min(axis=-1)
    return np.asarray(high - low <= _TINY * np.maximum(np.abs(high), np.abs(low)))


def _ratio(numerator: Array, denominator: Array, undefined: NDArray[np.bool_]) -> Array:
    """Divide; NaN where undefined."""
    safe = np.where(undefined | (denominator == 0), np.nan, denominator)
    return np.asarray(numerator / safe)
