"""Comparison of two groups of bags with a lower and a higher risk: log-rank test and hazard ratio."""

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from scipy import stats

Array = NDArray[np.float64]
_STEPS = 50


@dataclass(frozen=True)
class GroupComparison:
    """Result of the comparison; a number that is not defined (no event in a group) is `None`.

    Attributes:
        statistic: Log-rank statistic, chi-square with one degree of freedom; the square of a t if patients have
            several bags.
        p_value: Of the log-rank test.
        hazard_ratio: Hazard of the group with the higher risk divided by that of the other.
        low: Lower end of its 95% interval.
        high: Upper end.
        by_patient: Whether patients have several bags, so that variances are those between patients.
    """

    statistic: float | None
    p_value: float | None
    hazard_ratio: float | None = None
    low: float | None = None
    high: float | None = None
    by_patient: bool = False


def compare_groups(
    time: Array, event: NDArray[np.bool_], high_risk: NDArray[np.bool_], patients: NDArray[np.generic] | None = None
) -> GroupComparison:
    """Compare the events of two groups.

    Several bags of a patient have one event, and would count as several. If there are such, the variance of the log-rank
    statistic and of the hazard ratio is that between the sums over the bags of each patient (a sandwich estimator), times
    n / (n - 1) for n patients and with the t distribution of n - 1 degrees of freedom, since it is too small for few.

    Args:
        time: `(bags,)`.
        event: `(bags,)`.
        high_risk: `(bags,)` whether a bag is in the group with the higher risk.
        patients: `(bags,)` patient of each bag; `None` if all bags are independent.

    References:
        Mantel. Evaluation of survival data and two new rank order statistics arising in its consideration. 1966.
        Cox. Regression models and life-tables. JRSS B 34, 1972; ties as in Efron, JASA 72, 1977.
        Lee, Wei, Amato. Cox-type regression analysis for large numbers of small groups of correlated failure time
        observations. Survival Analysis: State of the Art, 1992 (robust variance).
    """
    if high_risk.all() or not high_risk.any():
        return GroupComparison(None, None)
    observed = expected = variance = 0.0
    for moment in np.unique(time[event]):
        at_risk = time >= moment
        died = (time == moment) & event
        count, total, high = at_risk.sum(), died.sum(), (at_risk & high_risk).sum()
        observed += (died & high_risk).sum()
        expected += total * high / count
        if count > 1:
            variance += total * (high / count) * (1 - high / count) * (count - total) / (count - 1)
    units = None if patients is None else np.unique(patients, return_inverse=True)[1].reshape(-1).astype(np.int64)
    if units is not None and units.max() + 1 < len(units):
        variance = _variance_between(units, _score_residuals(time, event, high_risk, 0.0))
    else:
        units = None
    if variance == 0:
        return GroupComparison(None, None)
    statistic = float((observed - expected) ** 2 / variance)
    p_value = float(stats.chi2.sf(statistic, 1) if units is None else 2 * stats.t.sf(np.sqrt(statistic), units.max()))
    ratio, low, high = _hazard_ratio(time, event, high_risk, units)
    return GroupComparison(statistic, p_value, ratio, low, high, units is not None)


def _hazard_ratio(
    time: Array, event: NDArray[np.bool_], high_risk: NDArray[np.bool_], units: NDArray[np.int64] | None
) -> tuple[float, float, float] | tuple[None, None, None]:
    """Return the hazard ratio of a Cox model with the group, with its Wald interval; `None` if it has no finite maximum."""
    if not (event & high_risk).any() or not (event & ~high_risk).any():
        return None, None, None
    beta = 0.0
    for _ in range(_STEPS):
        slope, information = _derivatives(time, event, high_risk, beta)
        if information <= 0 or abs(beta) > 30:
            return None, None, None
        step = slope / information
        beta += float(np.clip(step, -1, 1))
        if abs(step) < 1e-12:
            break
    information = _derivatives(time, event, high_risk, beta)[1]
    error = float(1 / np.sqrt(information))
    if units is not None:
        error = float(np.sqrt(_variance_between(units, _score_residuals(time, event, high_risk, beta))) / information)
    reach = float(stats.norm.ppf(0.975) if units is None else stats.t.ppf(0.975, units.max())) * error
    return float(np.exp(beta)), float(np.exp(beta - reach)), float(np.exp(beta + reach))


def _derivatives(
    time: Array, event: NDArray[np.bool_], high_risk: NDArray[np.bool_], beta: float
) -> tuple[float, float]:
    """Return slope and information of the partial log-likelihood (Efron) at a coefficient."""
    hazard = np.exp(beta * high_risk)
    slope = information = 0.0
    for moment in np.unique(time[event]):
        at_risk, died = time >= moment, (time == moment) & event
        slope += float((died & high_risk).sum())
        for part in np.arange(died.sum()) / died.sum():
            total = hazard[at_risk].sum() - part * hazard[died].sum()
            high = hazard[at_risk & high_risk].sum() - part * hazard[died & high_risk].sum()
            slope -= high / total
            information += high / total * (1 - high / total)
    return slope, information


def _variance_between(units: NDArray[np.int64], residuals: Array) -> float:
    """Return the variance of the sum of residuals, `(bags,)`, if only units are independent; 0 of a single unit."""
    count = int(units.max()) + 1
    return float((np.bincount(units, residuals) ** 2).sum() * count / (count - 1)) if count > 1 else 0.0


def _score_residuals(time: Array, event: NDArray[np.bool_], high_risk: NDArray[np.bool_], beta: float) -> Array:
    """Return what each bag adds to the slope, less its share in the slope of others; ties have one mean (Breslow)."""
    hazard = np.exp(beta * high_risk)
    residuals = np.zeros(len(time))
    for moment in np.unique(time[event]):
        at_risk, died = time >= moment, (time == moment) & event
        total = hazard[at_risk].sum()
        above = high_risk - hazard[at_risk & high_risk].sum() / total
        residuals += above * (died - at_risk * hazard * died.sum() / total)
    return residuals
