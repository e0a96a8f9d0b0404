"""Nominal target: several classes without an order, such as subtypes."""

from collections.abc import Mapping, Sequence

import numpy as np
import torch
import torch.nn.functional as F
from numpy.typing import NDArray
from torch import Tensor

from milpath.metrics.calibration import softmax_at_temperature
from milpath.metrics.evaluated_bags import EvaluatedBags
from milpath.metrics.intervals import Interval
from milpath.targets.target import Array, ClassTarget, require_classes, share_in_words

# Metrics of all targets with more than two classes: means over the classes.
CLASS_METRICS = (
    "auroc", "average_precision", "brier", "ece",
    "accuracy", "balanced_accuracy", "sensitivity", "specificity", "f1", "quadratic_kappa",
)  # fmt: skip


class Nominal(ClassTarget):
    """One logit per class; probabilities are their softmax, and the most probable class is predicted.

    Loss of a bag: `-log softmax(z)_y`.

    Example:
        >>> Nominal().predicted_classes(np.array([[0.4, 0.3, 0.3]])).tolist()
        [0]
    """

    name = "nominal"
    metric_names = CLASS_METRICS
    headline = ("accuracy", "balanced_accuracy", "auroc")
    # Its weights count the distance between classes, which without an order have none.
    hidden_metrics = ("quadratic_kappa",)
    subgroup_metrics = ("accuracy", "balanced_accuracy", "auroc")

    def num_outputs(self, num_classes: int) -> int:
        return require_classes(num_classes)

    def losses(self, logits: Tensor, labels: Tensor) -> Tensor:
        return F.cross_entropy(logits, labels, reduction="none")

    def probabilities(self, logits: Tensor, temperature: float = 1.0) -> Tensor:
        return (logits / temperature).softmax(1)

    def logits_of(self, answers: Tensor) -> Tensor:
        return answers.clamp_min(torch.finfo(torch.float32).tiny).log()

    def at_temperature(self, probabilities: Array, temperature: float) -> Array:
        return softmax_at_temperature(probabilities, temperature)

    def predicted_classes(self, probabilities: Array, threshold: float = 0.5) -> NDArray[np.int64]:
        return np.asarray(probabilities.argmax(axis=1), dtype=np.int64)

    def sentence(
        self, outcomes: EvaluatedBags, where: str, class_names: Sequence[str], intervals: Mapping[str, Interval]
    ) -> str:
        return f"{correct_in_words(outcomes, where, intervals)}."


def correct_in_words(outcomes: EvaluatedBags, where: str, intervals: Mapping[str, Interval]) -> str:
    """Return a clause with the number of correctly predicted bags."""
    right = int(outcomes.correct.sum())
    return f"{where}, {right:,} are classified correctly{share_in_words(intervals['accuracy'])}"
