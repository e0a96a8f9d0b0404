"""Metrics of a report, each computed for many weightings of the bags at once.

Training computes the same metrics with torchmetrics; here they take weights, so that a bootstrap of a thousand
resamples is one call. Tests compare both.
"""

import logging
import warnings
from collections.abc import Callable, Mapping
from functools import partial

import numpy as np
from numpy.typing import NDArray

from milpath.metrics.evaluated_bags import EvaluatedBags
from milpath.metrics.evaluated_several import MACRO, of_target, over_targets
from milpath.metrics.number_metrics import ALL_NUMBER_METRICS, metric_of_quantity
from milpath.metrics.ranking import auroc, average_precision
from milpath.metrics.survival.survival_metrics import SURVIVAL_METRICS, metric_at_time
from milpath.records.error_text import reason_of
from milpath.records.plain_values import brief

_log = logging.getLogger(__name__)

Array = NDArray[np.float64]
# Guo et al. 2017 use 15 bins of equal width; so does training.
NUM_CALIBRATION_BINS = 15


def confusion(outcomes: EvaluatedBags, weights: Array | None = None) -> Array:
    """Return the confusion matrix, true class by predicted class, `(..., classes, classes)`."""
    size = outcomes.num_classes
    cells = np.eye(size * size)[outcomes.labels * size + outcomes.predicted]
    counts = _weights(outcomes, weights) @ cells
    return np.reshape(counts, (*counts.shape[:-1], size, size))


def expected_calibration_error(outcomes: EvaluatedBags, weights: Array | None = None) -> Array:
    """Return sum_b n_b / n |accuracy_b - confidence_b| over 15 bins of equal width.

    A binary task compares the probability of class 1 with the frequency of class 1; other tasks compare the largest
    class probability with the accuracy.

    References:
        Guo et al. On calibration of modern neural networks. ICML 2017, eq. 3.
    """
    confidence, right = calibration_pairs(outcomes)
    bins = np.minimum((confidence * NUM_CALIBRATION_BINS).astype(int), NUM_CALIBRATION_BINS - 1)
    member = np.eye(NUM_CALIBRATION_BINS)[bins]
    chosen = _weights(outcomes, weights)
    gap = np.abs(chosen @ (member * (right - confidence)[:, None])).sum(axis=-1)
    return _ratio(gap, chosen.sum(axis=-1))


def calibration_pairs(outcomes: EvaluatedBags) -> tuple[Array, Array]:
    """Return the predicted probability and the observed outcome (0 or 1) of each bag."""
    if (wanted := outcomes.positive_class) is not None:
        return outcomes.probabilities[:, wanted], (outcomes.labels == wanted).astype(np.float64)
    called = outcomes.probabilities.argmax(axis=1)
    return outcomes.confidence, (called == outcomes.labels).astype(np.float64)


def brier(outcomes: EvaluatedBags, weights: Array | None = None) -> Array:
    """Return the mean squared error of the probabilities: of the positive class, or summed over classes without one.

    References:
        Brier. Verification of forecasts expressed in terms of probability. Monthly Weather Review 78, 1950, eq. 2.
    """
    error = ((outcomes.probabilities - np.eye(outcomes.num_classes)[outcomes.labels]) ** 2).sum(axis=1)
    chosen = _weights(outcomes, weights)
    return _ratio(chosen @ error, chosen.sum(axis=-1)) / (1 if outcomes.positive_class is None else 2)


def quadratic_kappa(outcomes: EvaluatedBags, weights: Array | None = None) -> Array:
    """Return Cohen's kappa with the weights (i - j)^2.

    kappa = 1 - sum_ij (i - j)^2 O_ij / sum_ij (i - j)^2 E_ij, with E the product of the margins of O.

    References:
        Cohen. Weighted kappa. Psychological Bulletin 70, 1968.
    """
    observed = confusion(outcomes, weights)
    total = observed.sum(axis=(-2, -1))
    expected = observed.sum(axis=-1)[..., :, None] * observed.sum(axis=-2)[..., None, :]
    distance = np.subtract.outer(np.arange(outcomes.num_classes), np.arange(outcomes.num_classes)) ** 2
    return 1 - _ratio((distance * observed).sum(axis=(-2, -1)) * total, (distance * expected).sum(axis=(-2, -1)))


def _ranked(score: Callable[..., Array], outcomes: EvaluatedBags, weights: Array | None = None) -> Array:
    """Return a ranking metric of class 1, or the one-vs-rest mean over classes."""
    if (wanted := outcomes.positive_class) is not None:
        return score(outcomes.labels == wanted, outcomes.probabilities[:, wanted], weights)
    each = [
        score(outcomes.labels == name, outcomes.probabilities[:, name], weights) for name in range(outcomes.num_classes)
    ]
    return np.asarray(np.mean(each, axis=0))


def _accuracy(outcomes: EvaluatedBags, weights: Array | None = None) -> Array:
    counts = confusion(outcomes, weights)
    return _ratio(np.trace(counts, axis1=-2, axis2=-1), counts.sum(axis=(-2, -1)))


def _sensitivity(outcomes: EvaluatedBags, weights: Array | None = None) -> Array:
    counts = confusion(outcomes, weights)
    hits = np.diagonal(counts, axis1=-2, axis2=-1)
    return _of_class(outcomes, counts, hits, counts.sum(axis=-1))


def _specificity(outcomes: EvaluatedBags, weights: Array | None = None) -> Array:
    counts = confusion(outcomes, weights)
    others = counts.sum(axis=(-2, -1))[..., None] - counts.sum(axis=-1)
    false_calls = counts.sum(axis=-2) - np.diagonal(counts, axis1=-2, axis2=-1)
    return _of_class(outcomes, counts, others - false_calls, others)


def _f1(outcomes: EvaluatedBags, weights: Array | None = None) -> Array:
    counts = confusion(outcomes, weights)
    hits, whole = np.diagonal(counts, axis1=-2, axis2=-1), counts.sum(axis=-1) + counts.sum(axis=-2)
    if outcomes.positive_class is not None:
        whole = np.where(counts.sum(axis=-1) > 0, whole, 0)  # without a bag to find it would be 0 whatever is called
    return _of_class(outcomes, counts, 2 * hits, whole)


def _balanced_accuracy(outcomes: EvaluatedBags, weights: Array | None = None) -> Array:
    counts = confusion(outcomes, weights)
    # Of bags of one class it would be a sensitivity, and 1 where this class is always called.
    several = (counts.sum(axis=-1) > 0).sum(axis=-1) > 1
    return np.where(several, _macro(counts, np.diagonal(counts, axis1=-2, axis2=-1), counts.sum(axis=-1)), np.nan)


def _of_class(outcomes: EvaluatedBags, counts: Array, part: Array, whole: Array) -> Array:
    """Return the ratio of the positive class, or the mean of the ratios over classes without one."""
    if (wanted := outcomes.positive_class) is not None:
        return _ratio(part[..., wanted], whole[..., wanted])
    return _macro(counts, part, whole)


def _macro(counts: Array, part: Array, whole: Array) -> Array:
    """Return the mean over the classes with a bag or a prediction for which the ratio is defined."""
    seen = ((counts.sum(axis=-1) + counts.sum(axis=-2)) > 0) & (whole > 0)
    ratios = np.divide(part, whole, out=np.zeros_like(part, dtype=np.float64), where=whole > 0)
    return _ratio((ratios * seen).sum(axis=-1), seen.sum(axis=-1).astype(np.float64))


def _weights(outcomes: EvaluatedBags, weights: Array | None) -> Array:
    return np.ones(outcomes.num_bags) if weights is None else weights


def _ratio(numerator: Array, denominator: Array) -> Array:
    """Divide; NaN where the denominator is 0."""
    numerator = np.asarray(numerator, dtype=np.float64)
    return np.divide(numerator, denominator, out=np.full_like(numerator, np.nan), where=np.asarray(denominator) > 0)


METRICS: Mapping[str, Callable[..., Array]] = {
    "auroc": partial(_ranked, auroc),
    "average_precision": partial(_ranked, average_precision),
    "accuracy": _accuracy,
    "balanced_accuracy": _balanced_accuracy,
    "sensitivity": _sensitivity,
    "specificity": _specificity,
    "f1": _f1,
    "brier": brier,
    "ece": expected_calibration_error,
    "quadratic_kappa": quadratic_kappa,
}
"""Metric name to function of outcomes and weights `(..., bags)`, which returns `(...)`, NaN if undefined."""


# With those of targets without classes.
_BY_NAME: Mapping[str, Callable[..., Array]] = {**METRICS, **ALL_NUMBER_METRICS, **SURVIVAL_METRICS}
_OWN: dict[str, Callable[..., Array]] = {}


def use_own_metrics(functions: Mapping[str, Callable[[EvaluatedBags], float]]) -> None:
    """Report your own metrics in addition to those of every target, in this process and until the next call.

    Args:
        functions: Name to function of outcomes that returns a number; NaN, a `ValueError` or a division by zero mean
            that it is undefined on these bags. A bootstrap calls it with bags repeated as often as they were drawn. An
            empty mapping removes all of them.

    Raises:
        ValueError: If a name is taken, or is not a valid identifier.

    Example:
        >>> use_own_metrics({"share_called_positive": lambda outcomes: (outcomes.predicted == 1).mean()})
        >>> own_metric_names()
        ('share_called_positive',)
        >>> use_own_metrics({})
    """
    for name in functions:
        if name in _BY_NAME or name in ("loss", "attention_entropy"):
            raise ValueError(f"metrics.{name} is already the name of a metric of milpath; give yours another name")
        if not name.isidentifier():
            raise ValueError(f"metrics.{name} must be a word of letters, digits and underscores")
    _OWN.clear()
    _OWN.update({name: partial(_own, name, function) for name, function in functions.items()})


def own_metric_names() -> tuple[str, ...]:
    """Return the names of the user-defined metrics."""
    return tuple(_OWN)


def _own(
    name: str, function: Callable[[EvaluatedBags], float], outcomes: EvaluatedBags, weights: Array | None = None
) -> Array:
    """Return a user-defined metric for each row of weights, which count how often each bag was drawn."""
    if weights is None:
        value, reason = _own_value(name, function, outcomes)
        if reason:
            _log.warning("metrics.%s is undefined on these %d bags: %s", name, outcomes.num_bags, reason)
        return np.asarray(value)
    rows = np.reshape(weights, (-1, outcomes.num_bags)).astype(np.int64)
    drawn = (outcomes.part(np.repeat(np.arange(outcomes.num_bags), row)) for row in rows)
    values = np.array([_own_value(name, function, each)[0] for each in drawn], dtype=np.float64)
    return np.reshape(values, np.shape(weights)[:-1])


def _own_value(name: str, function: Callable[[EvaluatedBags], float], outcomes: EvaluatedBags) -> tuple[float, str]:
    """Return the value of a user-defined function, or NaN and the reason if it is undefined."""
    if not outcomes.num_bags:
        return np.nan, "there is none"
    try:
        with np.errstate(all="ignore"), warnings.catch_warnings():
            warnings.simplefilter("ignore")  # resamples without a class would warn a thousand times
            value = function(outcomes)
    except (ValueError, ArithmeticError) as error:
        return np.nan, reason_of(error)
    if np.ndim(value) or not isinstance(value, int | float | np.number):
        raise ValueError(f"metrics.{name} returned {brief(value)}; a metric must return one number")
    return float(value), "" if np.isfinite(value) else f"it is {float(value)}"


def metric_function(name: str) -> Callable[..., Array]:
    """Return a metric by name; "target/metric" is that of one of several targets, "macro_metric" the mean over them.

    Raises:
        ValueError: If there is no metric with that name.

    Example:
        >>> from milpath.targets.evaluation import evaluate_bags
        >>> outcomes = evaluate_bags([0, 1], np.array([[0.9, 0.1], [0.2, 0.8]]), "binary")
        >>> float(metric_function("auroc")(outcomes))
        1.0
    """
    target, _, of_one = name.rpartition("/")
    if target:
        return partial(of_target, target, metric_function(of_one))
    if name.startswith(MACRO) and name.removeprefix(MACRO) in METRICS:
        return partial(over_targets, METRICS[name.removeprefix(MACRO)])
    function = _BY_NAME.get(name) or _OWN.get(name) or metric_of_quantity(name) or metric_at_time(name)
    if function is None:
        raise ValueError(f"metric {name!r} is not one of {', '.join((*_BY_NAME, *_OWN))}")
    return function
