"""Binary target: two classes, one of which is the class to detect, such as malignant."""

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


class Binary(ClassTarget):
    """One logit `z`; the probability of class 1 is `sigmoid(z)`.

    Loss of a bag: `-y log sigmoid(z) - (1 - y) log(1 - sigmoid(z))`.

    Example:
        >>> Binary().predicted_classes(np.array([[0.6, 0.4], [0.2, 0.8]]), threshold=0.3).tolist()
        [1, 1]
    """

    name = "binary"
    positive_class = 1
    metric_names = (
        "auroc", "average_precision", "brier", "ece",
        "accuracy", "balanced_accuracy", "sensitivity", "specificity", "f1",
    )  # fmt: skip
    headline = ("auroc", "sensitivity", "specificity", "average_precision")
    subgroup_metrics = ("auroc", "accuracy", "sensitivity", "specificity")

    def num_outputs(self, num_classes: int) -> int:
        if require_classes(num_classes) != 2:
            raise ValueError(f"a binary task has 2 classes, not {num_classes}; use task=nominal or task=ordinal")
        return 1

    def losses(self, logits: Tensor, labels: Tensor) -> Tensor:
        return F.binary_cross_entropy_with_logits(logits.squeeze(1), labels.to(logits.dtype), reduction="none")

    def probabilities(self, logits: Tensor, temperature: float = 1.0) -> Tensor:
        logits = logits / temperature
        return torch.cat([torch.sigmoid(-logits), torch.sigmoid(logits)], dim=1)

    def logits_of(self, answers: Tensor) -> Tensor:
        logs = answers.clamp_min(torch.finfo(torch.float32).tiny).log()
        return logs[:, 1:] - logs[:, :1]

    def at_temperature(self, probabilities: Array, temperature: float) -> Array:
        return softmax_at_temperature(probabilities, temperature)

    def predicted_classes(self, probabilities: Array, threshold: float = 0.5) -> NDArray[np.int64]:
        if not np.isfinite(threshold):
            raise ValueError(f"a threshold must be a finite number in [0, 1], got {threshold}")
        return (probabilities[:, 1] >= threshold).astype(np.int64)

    def undefined_metrics(self, missing: Sequence[int]) -> tuple[str, ...]:
        if not missing:
            return ()
        by_positive = ("sensitivity", "f1", "average_precision") if 1 in missing else ()
        return ("auroc", *by_positive, *(("specificity",) if 0 in missing else ()))

    def sentence(
        self, outcomes: EvaluatedBags, where: str, class_names: Sequence[str], intervals: Mapping[str, Interval]
    ) -> str:
        positive, negative = (outcomes.labels == 1).sum(), (outcomes.labels == 0).sum()
        found = ((outcomes.labels == 1) & outcomes.correct).sum()
        alarms = ((outcomes.labels == 0) & ~outcomes.correct).sum()
        return (
            f"{where}, {positive:,} are {class_names[1]}: the network finds {found:,} of them"
            f"{share_in_words(intervals['sensitivity'])}. "
            f"{alarms:,} of {negative:,} {class_names[0]} bags are predicted {class_names[1]}."
        )
