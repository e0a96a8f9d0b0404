"""Losses of survival, Cox's partial likelihood and that of discrete hazards, and the curves that logits stand for."""

import numpy as np
import torch
import torch.nn.functional as F
from numpy.typing import NDArray
from torch import Tensor

Array = NDArray[np.float64]


def cox_losses(risk: Tensor, time: Tensor, event: Tensor) -> Tensor:
    """Return the negative partial log-likelihood, one term per event; the term of a censored bag is 0.

    Of d events at one time, the l-th (l = 0..d-1, in any order) has the term
    `log(sum_{j at risk} exp(r_j) - l / d sum_{j tied} exp(r_j)) - r_i`.

    Args:
        risk: `(bags,)`.
        time: `(bags,)`.
        event: bool `(bags,)`.

    Returns:
        `(bags,)`; the sum does not depend on the order of the bags.

    References:
        Cox. Regression models and life-tables. JRSS B 34, 1972.
        Efron. The efficiency of Cox's likelihood function for censored data. JASA 72, 1977.
    """
    at_risk = time[None, :] >= time[:, None]
    tied = (time[None, :] == time[:, None]) & event[None, :]
    # The place of a bag among the events at its time.
    before = torch.ones_like(tied).tril(-1) & tied
    share = before.sum(1).to(risk.dtype) / tied.sum(1).clamp(min=1).to(risk.dtype)
    largest = torch.where(at_risk, risk[None, :], -torch.inf).amax(1).detach() if len(risk) else risk
    # Masked before the exponential: an infinite one would make the gradient NaN although it is not used.
    weights = torch.where(at_risk, risk[None, :] - largest[:, None], -torch.inf).exp()
    total = weights.sum(1) - share * torch.where(tied, weights, 0.0).sum(1)
    return torch.where(event, total.clamp(min=torch.finfo(total.dtype).tiny).log() + largest - risk, 0.0)


def hazard_losses(logits: Tensor, time: Tensor, event: Tensor, cuts: Tensor) -> Tensor:
    """Return the negative log-likelihood of hazards `h_k = sigmoid(z_k)` in the intervals `(c_{k-1}, c_k]`.

    An event in interval k has `-log h_k - sum_{j<k} log(1 - h_j)`; a censored bag has the second term over the intervals
    that it survived as a whole, and so has an event after the last cut.

    Args:
        logits: `(bags, intervals)`.
        time: `(bags,)`.
        event: bool `(bags,)`.
        cuts: `(intervals,)` ends of the intervals, ascending.

    References:
        Singer and Willett. It's about time: using discrete-time survival analysis. Journal of Educational Statistics 18,
        1993.
    """
    interval = torch.searchsorted(cuts, time.contiguous())
    inside = interval < len(cuts)
    ended = event & inside
    number = torch.arange(len(cuts), device=logits.device)
    passed = torch.where(event[:, None], number < interval[:, None], cuts[None, :] <= time[:, None])
    survived = torch.where(passed, F.softplus(logits), 0.0).sum(1)
    own = logits.gather(1, interval.clamp(max=len(cuts) - 1)[:, None]).squeeze(1)
    return survived + torch.where(ended, F.softplus(-own), 0.0)


def cox_hazard(risk: Tensor, times: Tensor, steps: Tensor, hazard: Tensor) -> Tensor:
    """Return the cumulative hazard `H_0(t) exp(risk)`, minus the log of survival, `(bags, times)`.

    Args:
        risk: `(bags,)` log of the relative hazard.
        times: `(times,)`.
        steps: `(steps,)` times of the steps of the baseline, ascending.
        hazard: `(steps,)` cumulative baseline hazard from each step on.
    """
    at = torch.cat([hazard.new_zeros(1), hazard])[torch.searchsorted(steps, times, right=True)]
    return (at.log()[None, :] + risk[:, None]).exp()  # 0 times infinity would be no number


def cox_median(risk: Tensor, steps: Tensor, hazard: Tensor) -> Tensor:
    """Return the time at which survival falls to one half or below, `(bags,)`; NaN if it does not.

    Args:
        risk: As in `cox_hazard`.
        steps: As in `cox_hazard`.
        hazard: As in `cox_hazard`.
    """
    place = torch.searchsorted(hazard, torch.log(risk.new_tensor(2.0)) * (-risk).exp())
    return torch.cat([steps, steps.new_full((1,), torch.nan)])[place]


def interval_hazard(logits: Tensor, times: Tensor, cuts: Tensor) -> Tensor:
    """Return the cumulative hazard at some times, `(bags, times)`, which is constant within an interval.

    After the last cut it stays as it is: nothing is known of later times.

    Args:
        logits: `(bags, intervals)`.
        times: `(times,)`.
        cuts: `(intervals,)` ends of the intervals, ascending.
    """
    starts = torch.cat([cuts.new_zeros(1), cuts[:-1]])
    share = ((times[:, None] - starts) / (cuts - starts)).clamp(0, 1)
    return (F.softplus(logits)[:, None, :] * share[None]).sum(2)


def hazard_survival(logits: Tensor, times: Tensor, cuts: Tensor) -> Tensor:
    """Return the probability of no event up to some times, `(bags, times)`; arguments as in `interval_hazard`."""
    return (-interval_hazard(logits, times, cuts)).exp()


def breslow(risk: Array, time: Array, event: NDArray[np.bool_]) -> tuple[Array, Array]:
    """Return the steps of the cumulative baseline hazard of Cox's model, and its value from each on.

    Args:
        risk: `(bags,)` log of the relative hazard.
        time: `(bags,)`.
        event: `(bags,)`.

    References:
        Breslow. Covariance analysis of censored survival data. Biometrics 30, 1974.
    """
    moments, events = np.unique(time[event], return_counts=True)
    largest = float(risk.max())
    at_risk = np.array([np.exp(risk[time >= moment] - largest).sum() for moment in moments])
    return moments, np.cumsum(events / at_risk) * np.exp(-largest)


def hazard_mean(logits: Tensor, cuts: Tensor) -> Tensor:
    """Return the mean of survival over the time up to the last cut by the trapezoidal rule, `(bags,)` in [0, 1].

    References:
        Royston and Parmar. Restricted mean survival time. BMC Medical Research Methodology 13, 2013.
    """
    survival = (-F.softplus(logits).cumsum(1)).exp()
    before = torch.cat([torch.ones_like(survival[:, :1]), survival[:, :-1]], 1)
    widths = torch.cat([cuts[:1], cuts[1:] - cuts[:-1]])
    return ((survival + before) / 2 * widths).sum(1) / cuts[-1]


def hazard_median(logits: Tensor, cuts: Tensor) -> Tensor:
    """Return the time at which survival is one half, `(bags,)`; NaN if it is not reached before the last cut."""
    lost = F.softplus(logits)
    total = lost.cumsum(1)
    half = torch.log(total.new_tensor(2.0))
    interval = (total < half).sum(1)
    inside = interval.clamp(max=len(cuts) - 1)[:, None]
    ends = cuts.expand(len(logits), -1).gather(1, inside).squeeze(1)
    starts = torch.cat([cuts.new_zeros(1), cuts[:-1]]).expand(len(logits), -1).gather(1, inside).squeeze(1)
    own = lost.gather(1, inside).squeeze(1)
    share = (half - (total.gather(1, inside).squeeze(1) - own)) / own
    return torch.where(interval < len(cuts), starts + share * (ends - starts), torch.nan)
