"""Quantiles of a predicted number from logits: in ascending order by construction, with the pinball loss."""

from collections.abc import Mapping, Sequence
from itertools import pairwise

import numpy as np
import torch
import torch.nn.functional as F
from numpy.typing import NDArray
from torch import Tensor

from milpath.metrics.evaluated_numbers import EvaluatedNumbers
from milpath.metrics.intervals import Interval
from milpath.metrics.quantile_metrics import covered
from milpath.records.plain_values import brief

MAX_LEVELS = 99


def require_levels(levels: object) -> tuple[float, ...]:
    """Return the levels of quantiles; empty for `None`.

    Raises:
        ValueError: If they are not two or more ascending numbers between 0 and 1.

    Example:
        >>> require_levels([0.1, 0.9]), require_levels(None)
        ((0.1, 0.9), ())
    """
    if levels is None or (isinstance(levels, list | tuple) and not levels):
        return ()
    if (
        not isinstance(levels, list | tuple)
        or not 2 <= len(levels) <= MAX_LEVELS
        or not all(type(level) in (int, float) and 0 < level < 1 for level in levels)
        or not all(first < second for first, second in pairwise(levels))
    ):
        raise ValueError(
            f"target.quantiles is {brief(levels)}; it must be a list of 2 to {MAX_LEVELS} ascending numbers between 0 "
            "and 1, such as [0.05,0.5,0.95], or null"
        )
    return tuple(float(level) for level in levels)


def quantiles_of(logits: Tensor, levels: Sequence[float]) -> Tensor:
    """Return quantiles that cannot cross: the lowest, and a gap of 0 or more to each next one.

    `q_1 = n_1 + z_1` and `q_k = q_(k-1) + softplus(z_k + c_k)`, with `n_k` the quantiles of the standard normal distribution
    and `c_k` such that logits of 0 give exactly these: training starts from a normal distribution.

    Args:
        logits: `(..., quantiles)`.
        levels: Levels of the quantiles, ascending, between 0 and 1.

    Returns:
        `(..., quantiles)`, in standard deviations of the training labels.

    Example:
        >>> [round(value, 2) for value in quantiles_of(torch.zeros(3), [0.05, 0.5, 0.95]).tolist()]
        [-1.64, 0.0, 1.64]
    """
    normal = torch.special.ndtri(torch.tensor(list(levels), dtype=torch.float64, device=logits.device))
    start = normal.diff().expm1().log().to(logits.dtype)  # the inverse of softplus
    lowest = normal[:1].to(logits.dtype) + logits[..., :1]
    gaps = F.softplus(logits[..., 1:] + start)
    return torch.cat([lowest, gaps], -1).cumsum(-1)


def logits_of_quantiles(quantiles: Tensor, levels: Sequence[float]) -> Tensor:
    """Return the logits of `quantiles_of` for quantiles in ascending order, `(..., quantiles)`.

    Example:
        >>> logits_of_quantiles(torch.tensor([-1.0, 0.5]).double(), [0.05, 0.95]).round(decimals=2).tolist()
        [0.64, -2.0]
    """
    normal = torch.special.ndtri(torch.tensor(list(levels), dtype=torch.float64, device=quantiles.device))
    start = normal.diff().expm1().log().to(quantiles.dtype)
    lowest = quantiles[..., :1] - normal[:1].to(quantiles.dtype)
    gaps = quantiles.diff(dim=-1).clamp_min(torch.finfo(torch.float32).tiny)
    return torch.cat([lowest, gaps + (-torch.expm1(-gaps)).log() - start], -1)  # softplus^-1(x) = x + log(1 - e^-x)


def outer_quantiles(answers: NDArray[np.float64], num_numbers: int, num_levels: int) -> NDArray[np.float64]:
    """Return the lowest quantile of each number, then the highest of each, `(..., 2 numbers)`.

    Args:
        answers: `(..., numbers (1 + levels))`: the numbers, then the quantiles of each.
        num_numbers: Number of numbers.
        num_levels: Number of quantiles of each.
    """
    last = num_numbers + num_levels - 1
    return np.concatenate([answers[..., num_numbers::num_levels], answers[..., last::num_levels]], -1)


def pinball_losses(predicted: Tensor, wanted: Tensor, levels: Sequence[float]) -> Tensor:
    """Return `max(t (y - q), (t - 1) (y - q))` of each quantile q of level t.

    Args:
        predicted: `(..., quantiles)`.
        wanted: `(...)`.
        levels: Levels of the quantiles.

    References:
        Koenker and Bassett. Regression quantiles. Econometrica 46, 1978.

    Example:
        >>> pinball_losses(torch.tensor([[1.0, 3.0]]), torch.tensor([2.0]), [0.25, 0.75]).tolist()
        [[0.25, 0.25]]
    """
    level = torch.tensor(list(levels), dtype=predicted.dtype, device=predicted.device)
    error = wanted[..., None] - predicted
    return torch.maximum(level * error, (level - 1) * error)


def coverage_in_words(
    outcomes: EvaluatedNumbers, names: Sequence[str], levels: Sequence[float], intervals: Mapping[str, Interval]
) -> str:
    """Return a sentence on how often each number lies between its outer quantiles; empty without quantiles.

    Args:
        outcomes: Evaluated bags.
        names: Names of the numbers.
        levels: Levels of the quantiles.
        intervals: Name of a metric to its interval.
    """
    if not levels:
        return ""
    low, high, said = levels[0], levels[-1], []
    for place, name in enumerate(names):
        found = intervals["coverage" if len(names) == 1 else f"coverage_{name}"]
        reach = "" if found.low is None else f" (95% interval {found.low:.0%} to {found.high:.0%})"
        said.append(
            f" The true {name} lies between the quantiles {low:g} and {high:g} in {covered(outcomes, place).sum():,} of "
            f"{outcomes.num_bags:,} bags, {found.value:.0%}{reach}; {high - low:.0%} are expected."
        )
    return "".join(said)
