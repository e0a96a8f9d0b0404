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
        statistic: Log-rank statistic, chi-square with one degree of freedom.
        p_value: Of the log-rank test.
        hazard_ratio: Hazard of the group with the higher risk divided by that of the other.
        low: Lower end of its 95% interval.
        high: Upper end.
    """

    statistic: float | None
    p_value: float | None
    hazard_ratio: float | None = None
    low: float | None = None
    high: float | None = None


def compare_groups(time: Array, event: NDArray[np.bool_], high_risk: NDArray[np.bool_]) -> GroupComparison:
    """Compare the events of two groups.

    Args:
        time: `(bags,)`.
        event: `(bags,)`.
        high_risk: `(bags,)` whether a bag is in the group with the higher risk.

    References:
        Mantel. Evaluation of survival data and two new rank order statistics arising in its consideration. 1966.
        Cox. Regression models and life-tables. JRSS B 34, 1972; ties as in Efron, JASA 72, 1977.
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
    if variance == 0:
        return GroupComparison(None, None)
    statistic = float((observed - expected) ** 2 / variance)
    ratio = _hazard_ratio(time, event, high_risk)
    return GroupComparison(statistic, float(stats.chi2.sf(statistic, 1)), *ratio)


def _hazard_ratio(
    time: Array, event: NDArray[np.bool_], high_risk: NDArray[np.bool_]
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
    error = float(1 / np.sqrt(_derivatives(time, event, high_risk, beta)[1]))
    reach = float(stats.norm.ppf(0.975)) * error
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
