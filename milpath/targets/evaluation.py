"""Evaluation of labels and probabilities: outcomes and metrics, for every target."""

from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

from milpath.metrics.evaluated_bags import EvaluatedBags
from milpath.targets.registry import target_named


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
    target = target_named(task)
    label_array = np.asarray(labels, dtype=np.int64)
    probability_array = np.asarray(probabilities, dtype=np.float64)
    _check(label_array, probability_array)
    target.num_outputs(probability_array.shape[1])
    if groups is not None and len(groups) != len(label_array):
        raise ValueError(f"{len(label_array)} bags have {len(groups)} groups; give one group per bag")
    return EvaluatedBags(
        labels=label_array,
        probabilities=probability_array,
        predicted=target.predicted_classes(probability_array, threshold),
        positive_class=target.positive_class,
        groups=None if groups is None else np.asarray([str(group) for group in groups]),
    )


def compute_metrics(
    probabilities: NDArray[np.floating], labels: NDArray[np.integer], task: str, threshold: float = 0.5
) -> dict[str, float | None]:
    """Compute all metrics of a set of bags in float64.

    Args:
        probabilities: `(bags, classes)`, rows sum to 1.
        labels: `(bags,)`, in 0..classes-1.
        task: Name of the target.
        threshold: Operating point of a binary task.

    Returns:
        Metric name to value; `None` if the metric is undefined on these labels (AUROC with one class).

    Example:
        >>> result = compute_metrics(np.array([[0.9, 0.1], [0.2, 0.8]]), np.array([0, 1]), "binary")
        >>> result["auroc"], round(result["brier"], 3)
        (1.0, 0.025)
    """
    return target_named(task).metrics(evaluate_bags(labels, probabilities, task, threshold))


def _check(labels: NDArray[np.int64], probabilities: NDArray[np.float64]) -> None:
    """Refuse arrays with invalid shapes or values."""
    if probabilities.ndim != 2 or probabilities.shape[1] < 2 or len(labels) != len(probabilities):
        raise ValueError(
            f"expected labels (bags,) and probabilities (bags, classes >= 2), got {labels.shape} and {probabilities.shape}"
        )
    if not np.isfinite(probabilities).all() or np.abs(probabilities.sum(axis=1) - 1).max(initial=0) > 1e-3:
        raise ValueError("probabilities must be finite and each row must sum to 1")
    if len(labels) and not 0 <= labels.min() <= labels.max() < probabilities.shape[1]:
        raise ValueError(f"labels must be in 0..{probabilities.shape[1] - 1}, got {labels.min()}..{labels.max()}")
