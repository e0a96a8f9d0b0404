"""Selective classification: the risk-coverage curve, and the benefit of deferring the least certain bags."""

from collections.abc import Iterable
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from milpath.metrics.evaluated_bags import EvaluatedBags

Array = NDArray[np.float64]


@dataclass(frozen=True)
class RiskCoverage:
    """Error rate among the most certain bags, as a function of coverage.

    Attributes:
        coverage: `(bags,)`, 1/n to 1.
        risk: `(bags,)` share of wrong predictions among the covered bags.
        area: Mean risk over all coverages (AURC); 0 is perfect.
    """

    coverage: Array
    risk: Array
    area: float


@dataclass(frozen=True)
class Deferral:
    """Results on the bags that the network decides when the least certain ones are deferred.

    Attributes:
        share: Requested share of deferred bags.
        num_referred: Number of deferred bags.
        num_kept: Number of bags that the network decides.
        accuracy: Accuracy on the kept bags; `None` if there are none.
        num_errors: Wrong predictions among the kept bags.
        errors_caught: Share of all wrong predictions that were deferred; `None` if there are none.
        num_single: Kept bags whose prediction set holds one class; `None` without prediction sets.
    """

    share: float
    num_referred: int
    num_kept: int
    accuracy: float | None
    num_errors: int
    errors_caught: float | None
    num_single: int | None = None


@dataclass(frozen=True)
class Referral:
    """Bags that the rule of a run refers to a person for one reason, or decides; each bag is in one row.

    Attributes:
        reason: "low confidence", "unfamiliar", "both", or "decided by the network".
        num_bags: Number of bags.
        num_errors: Wrong predictions among them.
        accuracy: Accuracy of the network on them; `None` if there are none.
    """

    reason: str
    num_bags: int
    num_errors: int
    accuracy: float | None


def referral_table(outcomes: EvaluatedBags, defer_below: float, unfamiliar: NDArray[np.bool_]) -> list[Referral]:
    """Return why the bags of a split are referred to a person, and how right the network is on those and on the others.

    Args:
        outcomes: Evaluated bags of the split; all of them count in every metric, referred or not.
        defer_below: Confidence below which a bag is referred.
        unfamiliar: bool `(bags,)`, above the bound of unfamiliarity.
    """
    unsure = outcomes.confidence < defer_below
    parts = {
        "low confidence": unsure & ~unfamiliar,
        "unfamiliar": unfamiliar & ~unsure,
        "both": unsure & unfamiliar,
        "decided by the network": ~unsure & ~unfamiliar,
    }
    rows = []
    for reason, chosen in parts.items():
        count, wrong = int(chosen.sum()), int((~outcomes.correct[chosen]).sum())
        rows.append(Referral(reason, count, wrong, 1 - wrong / count if count else None))
    return rows


def risk_coverage(outcomes: EvaluatedBags) -> RiskCoverage:
    """Return the risk-coverage curve, most certain bags first.

    Equally certain bags have no order: each counts with the mean of their errors, so that the curve does not depend on
    the order of rows.

    References:
        El-Yaniv and Wiener. On the foundations of noise-free selective classification. JMLR 11, 2010.
        Geifman, Uziel and El-Yaniv. Bias-reduced uncertainty estimation for deep neural classifiers. ICLR 2019, eq. 1.

    Example:
        >>> from milpath.targets.evaluation import evaluate_bags
        >>> outcomes = evaluate_bags([0, 1, 1], np.array([[0.9, 0.1], [0.6, 0.4], [0.2, 0.8]]), "binary")
        >>> risk_coverage(outcomes).risk.round(3).tolist()
        [0.0, 0.0, 0.333]
    """
    if outcomes.num_bags == 0:
        raise ValueError("a risk-coverage curve needs at least one bag")
    levels = np.unique(-outcomes.confidence, return_inverse=True)[1].reshape(-1)
    mean_errors = np.bincount(levels, ~outcomes.correct) / np.bincount(levels)
    wrong = np.cumsum(mean_errors[np.sort(levels)])
    count = np.arange(1, outcomes.num_bags + 1)
    risk = wrong / count
    return RiskCoverage(coverage=count / outcomes.num_bags, risk=risk, area=float(risk.mean()))


def defer_threshold(confidence: Array, share: float) -> float:
    """Return the confidence below which the requested share of validation bags, the least certain, is deferred.

    Args:
        confidence: `(bags,)` largest class probability of each validation bag.
        share: In [0, 1).

    Returns:
        `defer_below`: a bag is deferred if its confidence is below it. 0 defers none. Equally certain bags are treated
        alike: if they straddle the share, none of them is deferred.

    Example:
        >>> round(defer_threshold(np.array([0.5, 0.6, 0.7, 0.9]), share=0.5), 9)
        0.65
    """
    if not 0 <= share < 1:
        raise ValueError(f"the share of bags to defer must be in [0, 1), got {share}")
    ordered = np.sort(confidence)
    count = int(np.floor(share * len(ordered) + 1e-9))
    below = ordered[ordered < ordered[count]] if count else ordered[:0]
    return float((below[-1] + ordered[len(below)]) / 2) if len(below) else 0.0


def deferral_table(
    outcomes: EvaluatedBags,
    shares: Iterable[float] = (0.0, 0.05, 0.1, 0.2, 0.3, 0.5),
    sets: NDArray[np.bool_] | None = None,
) -> list[Deferral]:
    """Return the results of deferring the least certain bags of a split, for several shares.

    Args:
        outcomes: Evaluated bags of the split.
        shares: Shares of deferred bags, in [0, 1].
        sets: `(bags, classes)`, whether a class is in the prediction set of a bag; `None` without sets.
    """
    order = np.argsort(outcomes.confidence, kind="stable")
    wrong = ~outcomes.correct[order]
    rows = []
    for share in shares:
        referred = int(np.floor(share * len(order) + 1e-9))
        num_errors, num_kept = int(wrong[referred:].sum()), len(order) - referred
        rows.append(
            Deferral(
                share=share,
                num_referred=referred,
                num_kept=num_kept,
                accuracy=1 - num_errors / num_kept if num_kept else None,
                num_errors=num_errors,
                errors_caught=1 - num_errors / int(wrong.sum()) if wrong.any() else None,
                num_single=None if sets is None else int((sets[order[referred:]].sum(axis=1) == 1).sum()),
            )
        )
    return rows
