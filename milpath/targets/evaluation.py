"""Evaluation of labels and probabilities: outcomes and metrics, for every target."""

from collections.abc import Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from milpath.metrics.evaluated_bags import EvaluatedBags
from milpath.targets.registry import class_target_named, target_named
from milpath.targets.target import Target


def evaluate_bags(
    labels: Sequence[int] | NDArray[np.integer],
    probabilities: NDArray[np.floating],
    task: str,
    threshold: float = 0.5,
    groups: Sequence[object] | NDArray[np.generic] | None = None,
) -> EvaluatedBags:
    """Validate arrays and predict the class of each bag.

    Args:
        labels: `(bags,)`, in 0..classes-1.
        probabilities: `(bags, classes)`, rows sum to 1.
        task: Name of the target: "binary", "nominal" or "ordinal".
        threshold: Operating point of a binary task, in [0, 1].
        groups: `(bags,)` group of each bag; `None` if all bags are independent.

    Raises:
        ValueError: If shapes, labels, probabilities or task do not fit together.

    Example:
        >>> outcomes = evaluate_bags([0, 1], np.array([[0.9, 0.1], [0.6, 0.4]]), "binary", threshold=0.3)
        >>> outcomes.predicted.tolist(), outcomes.confidence.tolist()
        ([0, 1], [0.9, 0.6])
    """
    target = class_target_named(task)
    return target.evaluate(np.asarray(labels), np.asarray(probabilities), threshold, group_names(groups, len(labels)))


def group_names(groups: Sequence[object] | NDArray[np.generic] | None, num_bags: int) -> NDArray[np.str_] | None:
    """Return the groups as text; refuse another number of them than of bags."""
    if groups is None:
        return None
    if len(groups) != num_bags:
        raise ValueError(f"{num_bags} bags have {len(groups)} groups; give one group per bag")
    return np.asarray([str(group) for group in groups])


def compute_metrics(
    probabilities: NDArray[np.floating], labels: NDArray[Any], task: str | Target, threshold: float = 0.5
) -> dict[str, float | None]:
    """Compute all metrics of a set of bags in float64.

    Args:
        probabilities: `(bags, classes)`, rows sum to 1; or `(bags, columns)` of a target without classes.
        labels: `(bags,)`, in 0..classes-1; or `(bags, label columns)` of a target without classes.
        task: The target or its name.
        threshold: Operating point of a binary task.

    Returns:
        Metric name to value; `None` if the metric is undefined on these labels (AUROC with one class).

    Example:
        >>> result = compute_metrics(np.array([[0.9, 0.1], [0.2, 0.8]]), np.array([0, 1]), "binary")
        >>> result["auroc"], round(result["brier"], 3)
        (1.0, 0.025)
    """
    target = target_named(task)
    return target.metrics(target.evaluate(labels, np.asarray(probabilities, dtype=np.float64), threshold))
