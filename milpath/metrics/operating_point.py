"""Operating point of a binary task: the threshold for a target sensitivity, chosen on the validation split."""

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from milpath.metrics.evaluated_bags import EvaluatedBags
from milpath.metrics.intervals import Interval, metric_intervals

Array = NDArray[np.float64]


@dataclass(frozen=True)
class OperatingPoint:
    """Sensitivity and specificity of a threshold on a split.

    Attributes:
        threshold: A bag with at least this probability is predicted as class 1.
        sensitivity: Share of class 1 bags predicted as class 1, with its bootstrap interval.
        specificity: Share of class 0 bags predicted as class 0.
        num_missed: Class 1 bags predicted as class 0.
        num_false_alarms: Class 0 bags predicted as class 1.
    """

    threshold: float
    sensitivity: Interval
    specificity: Interval
    num_missed: int
    num_false_alarms: int


def threshold_for_sensitivity(labels: NDArray[np.int64], scores: Array, sensitivity: float) -> float:
    """Return the highest threshold that reaches a target sensitivity.

    Among all thresholds that reach it, the highest has the best specificity. Any value between two neighbouring scores
    gives the same predictions; the midpoint is used, so that rounding of a stored score cannot move a bag to the other
    side.

    Args:
        labels: `(bags,)` of the validation split, 0 or 1.
        scores: `(bags,)` probability of class 1.
        sensitivity: Target sensitivity for class 1, in (0, 1].

    Returns:
        In [0, 1].

    Raises:
        ValueError: If the sensitivity is out of range or there is no bag of class 1.

    Example:
        >>> threshold_for_sensitivity(np.array([0, 1, 0, 1]), np.array([0.1, 0.4, 0.6, 0.8]), sensitivity=1.0)
        0.25
    """
    if not 0 < sensitivity <= 1:
        raise ValueError(f"sensitivity must be in (0, 1], got {sensitivity}")
    positive = np.sort(scores[np.asarray(labels) == 1])[::-1]
    if len(positive) == 0:
        raise ValueError("the validation split has no bag of class 1; a threshold cannot be chosen on it")
    # 0.95 * 20 is 19.000000000000004 in floating point: without the tolerance one bag too many would be required.
    needed = int(np.ceil(sensitivity * len(positive) - 1e-9))
    lowest_found = positive[max(needed, 1) - 1]
    below = scores[scores < lowest_found]
    return float((lowest_found + (below.max() if len(below) else 0.0)) / 2)


def attained(
    labels: NDArray[np.int64],
    scores: Array,
    threshold: float,
    groups: NDArray[np.str_] | None = None,
    num_resamples: int = 1000,
    seed: int = 0,
) -> OperatingPoint:
    """Return the operating point of a threshold on a split that was not used to choose it.

    Args:
        labels: `(bags,)`, 0 or 1.
        scores: `(bags,)` probability of class 1.
        threshold: In [0, 1].
        groups: `(bags,)` groups that are drawn together in the bootstrap.
        num_resamples: Number of resamples.
        seed: Seed of the resamples.
    """
    outcomes = EvaluatedBags(
        labels=np.asarray(labels, dtype=np.int64),
        probabilities=np.stack([1 - scores, scores], axis=1),
        predicted=(scores >= threshold).astype(np.int64),
        positive_class=1,
        groups=groups,
    )
    intervals = metric_intervals(outcomes, ("sensitivity", "specificity"), num_resamples, seed=seed)
    return OperatingPoint(
        threshold=threshold,
        sensitivity=intervals["sensitivity"],
        specificity=intervals["specificity"],
        num_missed=int(((outcomes.labels == 1) & (outcomes.predicted == 0)).sum()),
        num_false_alarms=int(((outcomes.labels == 0) & (outcomes.predicted == 1)).sum()),
    )
