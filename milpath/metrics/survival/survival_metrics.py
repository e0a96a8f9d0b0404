"""Metrics of survival, each computed in float64 for many weightings of the bags at once.

Weights against censoring (IPCW) come from the training split, so that a resample of the test split does not change them.
"""

from collections.abc import Callable
from functools import partial

import numpy as np
from numpy.typing import NDArray

from milpath.metrics.survival.evaluated_times import EvaluatedTimes
from milpath.metrics.survival.survival_curves import kaplan_meier

Array = NDArray[np.float64]
# Risks closer than this are equal.
TIED = 1e-8
# Pairs are compared in blocks of as many bags, which bounds memory for any size of the split.
_BLOCK = 512


def harrell_c(outcomes: EvaluatedTimes, weights: Array | None = None) -> Array:
    """Return the share of comparable pairs in which the bag with the earlier event has the higher risk; ties count half.

    A pair is comparable if the earlier time is an event; at equal times an event is earlier than censoring.

    Args:
        outcomes: Evaluated bags.
        weights: `(..., bags)` >= 0, how often each bag counts; `None` means once.

    Returns:
        `(...)`; NaN without a comparable pair.

    References:
        Harrell et al. Evaluating the yield of medical tests. JAMA 247, 1982.
    """
    return _concordance(outcomes, np.ones(outcomes.num_bags), weights)


def uno_c(outcomes: EvaluatedTimes, weights: Array | None = None) -> Array:
    """Return the concordance up to the last of `times`, each pair weighted by 1 / G(t)^2 of its earlier event.

    References:
        Uno et al. On the C-statistics for evaluating overall adequacy of risk prediction procedures with censored survival
        data. Statistics in Medicine 30, 2011, eq. 6.
    """
    kept = outcomes.time < outcomes.times[-1]
    return _concordance(outcomes, np.where(kept, _inverse(outcomes.censoring.at(outcomes.time)), 0.0) ** 2, weights)


def time_auc(outcomes: EvaluatedTimes, weights: Array | None = None, *, time: float) -> Array:
    """Return the AUROC of the risk for an event up to a time against no event until after it, weighted by 1 / G.

    References:
        Hung and Chiang. Estimation methods for time-dependent AUC models with survival data. Canadian Journal of Statistics
        38, 2010 (cumulative cases, dynamic controls).
    """
    case = (outcomes.time <= time) & outcomes.event
    control = outcomes.time > time
    inverse = _inverse(outcomes.censoring.at(outcomes.time))
    return _pairs(
        outcomes.risk, case, lambda rows: np.broadcast_to(control, (len(rows), len(control))), inverse, weights
    )


def brier_at(outcomes: EvaluatedTimes, weights: Array | None = None, *, time: float) -> Array:
    """Return the squared error of the predicted survival at a time, weighted against censoring.

    NaN if the survival is unknown, or nobody of the cohort that the weights were estimated on was followed that long: bags
    without an event would then count as if they were predicted rightly.

    References:
        Graf et al. Assessment and comparison of prognostic classification schemes for survival data. Statistics in Medicine
        18, 1999.
    """
    predicted = _survival_at(outcomes, time)
    if predicted is None:
        return _undefined(weights)
    case = (outcomes.time <= time) & outcomes.event
    of_event = _inverse(outcomes.censoring.at(outcomes.time))
    of_time = float(_inverse(outcomes.censoring.at(time))[0])
    if of_time == 0:
        return _undefined(weights)
    error = predicted**2 * case * of_event + (1 - predicted) ** 2 * (outcomes.time > time) * of_time
    return _mean(error, weights)


def integrated_brier(outcomes: EvaluatedTimes, weights: Array | None = None) -> Array:
    """Return the Brier score integrated over `times` by the trapezoidal rule, divided by their range; lower is better."""
    from scipy.integrate import trapezoid  # numpy has it by this name from 2.0

    each = np.stack([brier_at(outcomes, weights, time=float(time)) for time in outcomes.times])
    if len(outcomes.times) == 1:
        return np.asarray(each[0])
    return np.asarray(trapezoid(each, outcomes.times, axis=0) / (outcomes.times[-1] - outcomes.times[0]))


def mean_time_auc(outcomes: EvaluatedTimes, weights: Array | None = None) -> Array:
    """Return the mean of the time-dependent AUROC over `times`."""
    return np.asarray(np.mean([time_auc(outcomes, weights, time=float(time)) for time in outcomes.times], axis=0))


def calibration_at(outcomes: EvaluatedTimes, weights: Array | None = None, *, time: float) -> Array:
    """Return the mean predicted risk of an event up to a time minus the observed one (Kaplan-Meier); 0 is calibrated."""
    predicted = _survival_at(outcomes, time)
    if predicted is None:
        return _undefined(weights)
    observed = kaplan_meier(outcomes.time, outcomes.event, weights).at(time)[..., 0]
    followed = np.where(outcomes.time >= time, 1.0, 0.0)
    last = _mean(followed, weights) > 0
    return np.where(last, observed - _mean(predicted, weights), np.nan)


SURVIVAL_METRICS: dict[str, Callable[..., Array]] = {
    "c_index": harrell_c,
    "uno_c_index": uno_c,
    "time_auc": mean_time_auc,
    "integrated_brier": integrated_brier,
}
_AT_TIME: dict[str, Callable[..., Array]] = {
    "time_auc_at": time_auc,
    "brier_at": brier_at,
    "calibration_at": calibration_at,
}


def name_at(metric: str, time: float) -> str:
    """Return the name of a metric at a time.

    Example:
        >>> name_at("brier", 12.0)
        'brier_at_12'
    """
    return f"{metric}_at_{time:.9g}"


def metric_at_time(name: str) -> Callable[..., Array] | None:
    """Return a metric at one time, such as "brier_at_12"; `None` if the name is not of that form."""
    metric, _, text = name.rpartition("_")
    if metric not in _AT_TIME:
        return None
    try:
        return partial(_AT_TIME[metric], time=float(text))
    except ValueError:
        return None


def _concordance(outcomes: EvaluatedTimes, of_event: Array, weights: Array | None) -> Array:
    """Return the concordance of risks with the order of events."""
    time, event = outcomes.time, outcomes.event

    def comparable(rows: NDArray[np.int64]) -> NDArray[np.bool_]:
        later = time[None, :] > time[rows, None]
        return np.asarray(later | ((time[None, :] == time[rows, None]) & ~event[None, :]))

    return _pairs(outcomes.risk, event, comparable, of_event, weights)


def _pairs(
    risk: Array,
    case: NDArray[np.bool_],
    partners: Callable[[NDArray[np.int64]], NDArray[np.bool_]],
    of_case: Array,
    weights: Array | None,
) -> Array:
    """Return the weighted share of pairs of a case and a partner in which the case has the higher risk.

    Args:
        risk: `(bags,)`.
        case: `(bags,)`.
        partners: From rows of cases to `(rows, bags)`, whether a bag is compared with the case.
        of_case: `(bags,)` weight of the pairs of a case.
        weights: `(..., bags)`; `None` means once.
    """
    counts = np.ones(len(risk)) if weights is None else weights
    won, total = np.zeros(counts.shape[:-1]), np.zeros(counts.shape[:-1])
    cases = np.flatnonzero(case & (of_case > 0))
    for start in range(0, len(cases), _BLOCK):
        rows = cases[start : start + _BLOCK]
        pairs = partners(rows) * of_case[rows, None]
        gap = risk[rows, None] - risk[None, :]
        score = np.where(np.abs(gap) <= TIED, 0.5, (gap > 0).astype(np.float64))
        own = counts[..., rows]
        won = won + ((counts @ (pairs * score).T) * own).sum(axis=-1)
        total = total + ((counts @ pairs.T) * own).sum(axis=-1)
    return np.asarray(np.divide(won, total, out=np.full(np.shape(won), np.nan), where=total > 0))


def _survival_at(outcomes: EvaluatedTimes, time: float) -> Array | None:
    """Return the predicted survival at one of `times`, `(bags,)`."""
    if outcomes.survival is None:
        return None
    return np.asarray(outcomes.survival[:, int(np.abs(outcomes.times - time).argmin())])


def _inverse(probability: Array) -> Array:
    """Return 1 / G; 0 where nobody is followed that long."""
    return np.divide(1.0, probability, out=np.zeros_like(probability), where=probability > 0)


def _mean(values: Array, weights: Array | None) -> Array:
    """Return the weighted mean over bags; NaN without weight."""
    if weights is None:
        return np.asarray(values.mean()) if len(values) else np.asarray(np.nan)
    total = weights.sum(axis=-1)
    return np.asarray(np.divide(weights @ values, total, out=np.full(total.shape, np.nan), where=total > 0))


def _undefined(weights: Array | None) -> Array:
    """Return NaN for each weighting."""
    return np.full(() if weights is None else weights.shape[:-1], np.nan)
