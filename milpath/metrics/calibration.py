"""Whether 0.8 means eight in ten: reliability curves, and temperature scaling fitted on validation."""

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from milpath.metrics.evaluated_bags import Outcomes, at_least
from milpath.metrics.weighted_metrics import NUM_CALIBRATION_BINS, calibration_pairs

Array = NDArray[np.float64]
# Half the distance between 1 and the next smaller float32: what a probability of exactly 1 stands for.
SMALLEST = 2.0**-25
# A validation split that the network separates without error would send the temperature to 0, and every probability to 0
# or 1; the bounds keep it where a split of a few dozen bags can tell something.
TEMPERATURE_BOUNDS = (0.1, 10.0)


@dataclass(frozen=True)
class ReliabilityCurve:
    """What was claimed and what happened, bin by bin; empty bins are left out.

    Attributes:
        claimed: Mean probability in each bin.
        happened: Share of bags where it came true.
        count: Number of bags.
    """

    claimed: Array
    happened: Array
    count: NDArray[np.int64]


def reliability_curve(outcomes: Outcomes, num_bins: int = NUM_CALIBRATION_BINS) -> ReliabilityCurve:
    """Return the reliability curve over equally wide bins.

    A binary task compares the probability of class 1 with the share of class 1; others the greatest probability with how
    often its class is right.

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
    """Return the probabilities that class logits divided by a temperature give.

    The logits are recovered from the probabilities: log p up to a constant that softmax ignores.

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
    from scipy.special import softmax  # an endpoint asks for no other temperature and has no scipy

    result: Array = softmax(np.log(np.clip(probabilities, SMALLEST, None)) / temperature, axis=1)
    return result


def cumulative_at_temperature(probabilities: Array, temperature: float) -> Array:
    """Return the probabilities of ordered classes that cumulative logits divided by a temperature give.

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
    """Refuse a temperature that no logit can be divided by."""
    if not 0 < temperature < np.inf:
        raise ValueError(f"a temperature must be positive, got {temperature}")


def negative_log_likelihood(labels: NDArray[np.int64], probabilities: Array) -> float:
    """Return the mean negative logarithm of the probability of what is true."""
    true = probabilities[np.arange(len(labels)), labels]
    return float(-np.log(np.clip(true, SMALLEST, None)).mean())


def fit_temperature(labels: NDArray[np.int64], at_temperature: Callable[[float], Array]) -> float:
    """Return the temperature with the least negative log-likelihood.

    Args:
        labels: `(bags,)` of the validation split, never of the test split.
        at_temperature: From a temperature to the probabilities of the same bags, `(bags, classes)`.

    Returns:
        In [0.1, 10].

    Raises:
        ValueError: If there is no bag.

    References:
        Guo et al. On calibration of modern neural networks. ICML 2017, section 4.2.
    """
    if len(labels) == 0:
        raise ValueError("a temperature is fitted on the bags of a validation split, and there is none")
    # Half a second that predicting with a temperature fitted before need not wait for.
    from scipy.optimize import minimize_scalar

    labels = np.asarray(labels, dtype=np.int64)

    def loss(log_temperature: float) -> float:
        scaled = at_temperature(float(np.exp(log_temperature)))
        return negative_log_likelihood(labels, scaled)

    result = minimize_scalar(loss, bounds=np.log(TEMPERATURE_BOUNDS), method="bounded", options={"xatol": 1e-6})
    return float(np.exp(result.x))
