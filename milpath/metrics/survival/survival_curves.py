"""Kaplan-Meier curves of events and of censoring, in float64, for many weightings of the bags at once."""

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

Array = NDArray[np.float64]


@dataclass(frozen=True)
class Curve:
    """A step function of time that is 1 before its first step.

    Attributes:
        times: `(steps,)`, ascending.
        levels: `(..., steps)`, the value from each time on.
    """

    times: Array
    levels: Array

    def at(self, times: Array | float) -> Array:
        """Return the values at some times, `(..., times)`, steps included."""
        place = np.searchsorted(self.times, np.atleast_1d(np.asarray(times, dtype=np.float64)), side="right")
        padded = np.concatenate([np.ones((*self.levels.shape[:-1], 1)), self.levels], axis=-1)
        return np.asarray(padded[..., place])


def kaplan_meier(time: Array, event: NDArray[np.bool_], weights: Array | None = None) -> Curve:
    """Return the product-limit estimate of survival, `S(t) = prod_{t_k <= t} (1 - d_k / n_k)`.

    Args:
        time: `(bags,)` time of the event or of censoring, >= 0.
        event: `(bags,)` whether the event was observed.
        weights: `(..., bags)` >= 0, how often each bag counts; `None` means once.

    References:
        Kaplan and Meier. Nonparametric estimation from incomplete observations. JASA 53, 1958.

    Example:
        >>> kaplan_meier(np.array([1.0, 2.0, 3.0]), np.array([True, False, True])).at([1.5, 3.0]).round(3).tolist()
        [0.667, 0.0]
    """
    times, events, at_risk, _ = _counts(time, event, weights)
    return Curve(times, _product(events, at_risk))


def censoring_curve(time: Array, event: NDArray[np.bool_]) -> Curve:
    """Return the probability not to be censored before or at a time; at equal times events come before censoring.

    References:
        Uno et al. On the C-statistics for evaluating overall adequacy of risk prediction procedures with censored survival
        data. Statistics in Medicine 30, 2011.
    """
    times, events, at_risk, censored = _counts(time, event, None)
    return Curve(times, _product(censored, at_risk - events))


def numbers_at_risk(time: Array, times: Array) -> NDArray[np.int64]:
    """Return how many bags are still followed just before each time, `(times,)`."""
    return np.asarray((time[None, :] >= np.asarray(times)[:, None]).sum(axis=1), dtype=np.int64)


def _counts(time: Array, event: NDArray[np.bool_], weights: Array | None) -> tuple[Array, Array, Array, Array]:
    """Return the distinct times, and the weights of events, of bags at risk and of censored bags at each."""
    order = np.argsort(time, kind="stable")
    ordered = time[order]
    starts = np.flatnonzero(np.r_[True, ordered[1:] != ordered[:-1]])
    chosen = (np.ones(len(time)) if weights is None else weights)[..., order]
    total = np.add.reduceat(chosen, starts, axis=-1)
    events = np.add.reduceat(chosen * event[order], starts, axis=-1)
    at_risk = np.cumsum(total[..., ::-1], axis=-1)[..., ::-1]
    return ordered[starts], events, at_risk, total - events


def _product(leaving: Array, at_risk: Array) -> Array:
    """Return the running product of the shares that stay; nobody at risk changes nothing."""
    share = np.divide(leaving, at_risk, out=np.zeros_like(at_risk), where=at_risk > 0)
    return np.cumprod(1 - share, axis=-1)
