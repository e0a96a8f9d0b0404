"""Calibration: reliability curves, and temperature scaling fitted on the validation split."""

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from milpath.metrics.evaluated_bags import EvaluatedBags, at_least
from milpath.metrics.weighted_metrics import NUM_CALIBRATION_BINS, calibration_pairs

Array = NDArray[np.float64]
# Half the distance between 1 and the next smaller float32: the rounding error of a probability of exactly 1.
SMALLEST = 2.0**-25
# On a validation split that the network separates without error the fit would drive the temperature to 0, and every
# probability to 0 or 1; the bounds limit it to values that a few dozen bags can support.
TEMPERATURE_BOUNDS = (0.1, 10.0)


@dataclass(frozen=True)
class ReliabilityCurve:
    """Predicted probability and observed frequency per bin; empty bins are omitted.

    Attributes:
        claimed: Mean predicted probability in each bin.
        happened: Observed frequency in each bin.
        count: Number of bags in each bin.
    """

    claimed: Array
    happened: Array
    count: NDArray[np.int64]


def reliability_curve(outcomes: EvaluatedBags, num_bins: int = NUM_CALIBRATION_BINS) -> ReliabilityCurve:
    """Return the reliability curve over bins of equal width.

    A binary task compares the probability of class 1 with the frequency of class 1; other tasks compare the largest
    class probability with the accuracy.

    References:
        Guo et al. On calibration of modern neural networks. ICML 2017, section 2.
    """
    claimed, happened = calibration_pairs(outcomes)
    bins = np.minimum((claimed * num_bins).astype(int), num_bins - 1)
    count = np.bincount(bins, minlength=num_bins)
    used = count > 0
    return ReliabilityCurve(
        claimed=np.bincount(bins, claimed, num_bins)[used] / count[used],
        happened=np.bincount(bins, happened, num_bins)[used] / count[used],
        count=count[used],
    )


def softmax_at_temperature(probabilities: Array, temperature: float) -> Array:
    """Return the probabilities of class logits divided by a temperature.

    The logits are recovered from the probabilities: log p, up to a constant that cancels in the softmax.

    Args:
        probabilities: `(bags, classes)`, rows sum to 1.
        temperature: > 0; above 1 softens, below 1 sharpens.

    Returns:
        `(bags, classes)`, rows sum to 1; the most probable class stays the same.

    References:
        Guo et al. On calibration of modern neural networks. ICML 2017, eq. 9.

    Example:
        >>> softmax_at_temperature(np.array([[0.1, 0.9]]), 2.0).round(3).tolist()
        [[0.25, 0.75]]
    """
    _require_positive(temperature)
    from scipy.special import softmax  # an endpoint never uses another temperature and has no scipy

    result: Array = softmax(np.log(np.clip(probabilities, SMALLEST, None)) / temperature, axis=1)
    return result


def cumulative_at_temperature(probabilities: Array, temperature: float) -> Array:
    """Return the probabilities of ordered classes, from cumulative logits divided by a temperature.

    Args:
        probabilities: `(bags, classes)`, rows sum to 1.
        temperature: > 0; above 1 softens, below 1 sharpens.

    Returns:
        `(bags, classes)`, rows sum to 1.
    """
    _require_positive(temperature)
    from scipy.special import expit, logit

    cumulative = np.clip(at_least(probabilities), SMALLEST, 1 - SMALLEST)
    scaled = expit(logit(cumulative) / temperature)
    ends = np.ones((len(scaled), 1)), np.zeros((len(scaled), 1))
    return -np.diff(np.concatenate([ends[0], scaled, ends[1]], axis=1), axis=1)


def _require_positive(temperature: float) -> None:
    """Refuse a temperature that is not positive."""
    if not 0 < temperature < np.inf:
        raise ValueError(f"a temperature must be positive, got {temperature}")


def negative_log_likelihood(labels: NDArray[np.int64], probabilities: Array) -> float:
    """Return the mean negative log-probability of the true class."""
    true = probabilities[np.arange(len(labels)), labels]
    return float(-np.log(np.clip(true, SMALLEST, None)).mean())


def say_bound(temperature: float) -> str:
    """Return what to know of a fitted temperature at the end of its range; empty if it is within.

    Example:
        >>> say_bound(0.1), say_bound(1.3)
        ('the temperature 0.1 is the lowest that is fitted: validation has too few errors to choose it', '')
    """
    low, high = TEMPERATURE_BOUNDS
    if temperature <= low * 1.001:
        return f"the temperature {low:g} is the lowest that is fitted: validation has too few errors to choose it"
    if temperature >= high * 0.999:
        return f"the temperature {high:g} is the highest that is fitted: the probabilities say next to nothing"
    return ""


def fit_temperature(labels: NDArray[np.int64], at_temperature: Callable[[float], Array]) -> float:
    """Return the temperature that minimises the negative log-likelihood.

    Args:
        labels: `(bags,)` of the validation split, never of the test split.
        at_temperature: Function from a temperature to the probabilities of the same bags, `(bags, classes)`.

    Returns:
        In [0.1, 10].

    Raises:
        ValueError: If there are no bags.

    References:
        Guo et al. On calibration of modern neural networks. ICML 2017, section 4.2.
    """
    if len(labels) == 0:
        raise ValueError("fitting a temperature needs a validation split, but it has no bags")
    # Importing it takes half a second, which predictions with a fitted temperature do not need.
    from scipy.optimize import minimize_scalar

    labels = np.asarray(labels, dtype=np.int64)

    def loss(log_temperature: float) -> float:
        scaled = at_temperature(float(np.exp(log_temperature)))
        return negative_log_likelihood(labels, scaled)

    result = minimize_scalar(loss, bounds=np.log(TEMPERATURE_BOUNDS), method="bounded", options={"xatol": 1e-6})
    return float(np.exp(result.x))
