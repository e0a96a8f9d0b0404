"""Ordinal target: several ordered classes, such as grades."""

from collections.abc import Mapping, Sequence

import numpy as np
import torch
import torch.nn.functional as F
from numpy.typing import NDArray
from torch import Tensor

from milpath.metrics.calibration import cumulative_at_temperature
from milpath.metrics.conformal import ORDERED
from milpath.metrics.evaluated_bags import EvaluatedBags, at_least
from milpath.metrics.intervals import Interval
from milpath.targets.nominal import CLASS_METRICS, correct_in_words
from milpath.targets.target import Array, ClassTarget, require_classes


class Ordinal(ClassTarget):
    """Cumulative logits `z_k`, k = 1..K-1: `sigmoid(z_k)` is the probability that the class is at least k.

    A network may output a cumulative probability that exceeds the previous one, so each is capped by the one before,
    which keeps every class probability non-negative. The median class is predicted: the number of cumulative
    probabilities above one half. Loss of a bag: the sum over k of the binary loss of "the class is at least k" at
    `z_k`.

    References:
        Cao, Mirjalili, Raschka. Rank consistent ordinal regression for neural networks. 2020, eq. 4 (weights 1).

    Example:
        >>> Ordinal().predicted_classes(np.array([[0.4, 0.3, 0.3]])).tolist()
        [1]
    """

    name = "ordinal"
    metric_names = CLASS_METRICS
    headline = ("quadratic_kappa", "accuracy", "auroc", "balanced_accuracy")
    subgroup_metrics = ("quadratic_kappa", "accuracy", "auroc")
    wrongness_title = "Distance"
    set_kind = ORDERED

    def num_outputs(self, num_classes: int) -> int:
        return require_classes(num_classes) - 1

    def losses(self, logits: Tensor, labels: Tensor) -> Tensor:
        steps = torch.arange(1, logits.shape[1] + 1, device=labels.device)
        reached = (labels[:, None] >= steps).to(logits.dtype)
        return F.binary_cross_entropy_with_logits(logits, reached, reduction="none").sum(1)

    def probabilities(self, logits: Tensor, temperature: float = 1.0) -> Tensor:
        cumulative = torch.sigmoid(logits / temperature).cummin(1).values
        ones = torch.ones_like(cumulative[:, :1])
        return torch.cat([ones, cumulative], 1) - torch.cat([cumulative, torch.zeros_like(ones)], 1)

    def logits_of(self, answers: Tensor) -> Tensor:
        smallest = torch.finfo(torch.float32).tiny
        reached = answers.flip(1).cumsum(1).flip(1)[:, 1:].clamp_min(smallest)
        below = answers.cumsum(1)[:, :-1].clamp_min(smallest)
        return reached.log() - below.log()

    def at_temperature(self, probabilities: Array, temperature: float) -> Array:
        return cumulative_at_temperature(probabilities, temperature)

    def predicted_classes(self, probabilities: Array, threshold: float = 0.5) -> NDArray[np.int64]:
        return np.asarray((at_least(probabilities) > 0.5).sum(axis=1), dtype=np.int64)

    def wrongness(self, outcomes: EvaluatedBags) -> Array:
        """Return the expected distance `sum_k p_k |k - y|`: a grade 5 predicted as 0 is worse than one predicted as 4."""
        distance = np.abs(np.arange(outcomes.num_classes)[None, :] - outcomes.labels[:, None])
        return np.asarray((outcomes.probabilities * distance).sum(axis=1))

    def sentence(
        self, outcomes: EvaluatedBags, where: str, class_names: Sequence[str], intervals: Mapping[str, Interval]
    ) -> str:
        near = int((abs(outcomes.predicted - outcomes.labels) <= 1).sum())
        return f"{correct_in_words(outcomes, where, intervals)}, and {near:,} at most one class off."
