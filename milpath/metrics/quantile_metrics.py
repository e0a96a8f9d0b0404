"""Metrics of predicted quantiles, each computed in float64 for many weightings of the bags at once."""

from collections.abc import Callable

import numpy as np
from numpy.typing import NDArray

from milpath.metrics.evaluated_numbers import EvaluatedNumbers

Array = NDArray[np.float64]


def covered(outcomes: EvaluatedNumbers, place: int) -> NDArray[np.bool_]:
    """Return whether the label of each bag lies between its lowest and its highest quantile, `(bags,)`."""
    quantiles, truth = _of(outcomes, place)
    return np.asarray((quantiles[:, 0] <= truth) & (truth <= quantiles[:, -1]))


def coverage(outcomes: EvaluatedNumbers, place: int, weights: Array | None = None) -> Array:
    """Return the share of bags whose label lies between the lowest and the highest quantile.

    Args:
        outcomes: Evaluated bags with quantiles.
        place: Position of the quantity.
        weights: `(..., bags)` >= 0, how often each bag counts; `None` means once.

    Returns:
        `(...)`; NaN without bags.
    """
    return _mean(covered(outcomes, place).astype(np.float64), weights)


def pinball(outcomes: EvaluatedNumbers, place: int, weights: Array | None = None) -> Array:
    """Return the pinball loss, a mean over bags and quantiles, in the units of the labels; arguments as above."""
    quantiles, truth = _of(outcomes, place)
    error, level = truth[:, None] - quantiles, np.asarray(outcomes.levels)
    return _mean(np.maximum(level * error, (level - 1) * error).mean(axis=1), weights)


def width(outcomes: EvaluatedNumbers, place: int, weights: Array | None = None) -> Array:
    """Return the mean distance between the lowest and the highest quantile, in the units of the labels."""
    quantiles, _ = _of(outcomes, place)
    return _mean(quantiles[:, -1] - quantiles[:, 0], weights)


QUANTILE_METRICS: dict[str, Callable[..., Array]] = {"coverage": coverage, "pinball": pinball, "width": width}
"""Metric name to function of outcomes, position of the quantity and weights `(..., bags)`."""


def share_at_or_below(outcomes: EvaluatedNumbers, place: int) -> Array:
    """Return the share of labels at or below each quantile, `(quantiles,)`: equal to the levels if calibrated."""
    quantiles, truth = _of(outcomes, place)
    return np.asarray((truth[:, None] <= quantiles).mean(axis=0))


def _of(outcomes: EvaluatedNumbers, place: int) -> tuple[Array, Array]:
    """Return quantiles `(bags, quantiles)` and labels `(bags,)` of a quantity."""
    if outcomes.quantiles is None:
        raise ValueError("these predictions have no quantiles; train with target.quantiles=[0.05,0.5,0.95]")
    return outcomes.quantiles[:, place], outcomes.labels[:, place]


def _mean(values: Array, weights: Array | None) -> Array:
    """Return the weighted mean over bags; NaN without weight."""
    chosen = np.ones(len(values)) if weights is None else weights
    total = chosen.sum(axis=-1)
    return np.asarray((chosen @ values) / np.where(total > 0, total, np.nan))
