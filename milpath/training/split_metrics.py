"""The metrics of a split: one definition for the epochs of a run and for its final numbers."""

import math
import warnings
from collections.abc import Sequence
from typing import Any

import torch
import torch.distributed as dist
from torch import Tensor
from torchmetrics import MeanSquaredError, Metric, MetricCollection
from torchmetrics import classification as tm
from torchmetrics.utilities.distributed import gather_all_tensors

# Guo et al. 2017 use 15 equally wide bins; the reports do too.
NUM_CALIBRATION_BINS = 15


def predicted_classes(probabilities: Tensor, task: str, threshold: float = 0.5) -> Tensor:
    """Return the class each bag is called.

    Args:
        probabilities: `(bags, classes)`, rows sum to 1.
        task: "binary" (class 1 from `threshold` on), "nominal" (most probable class) or "ordinal" (the median class,
            which is the number of cumulative probabilities above one half).
        threshold: Operating point of a binary task, in [0, 1].

    Returns:
        int64 `(bags,)`.

    Example:
        >>> predicted_classes(torch.tensor([[0.6, 0.4], [0.2, 0.8]]), "binary", threshold=0.3)
        tensor([1, 1])
        >>> predicted_classes(torch.tensor([[0.4, 0.3, 0.3]]), "ordinal")
        tensor([1])
    """
    if not math.isfinite(threshold):
        raise ValueError(f"a threshold must be a finite number in [0, 1], got {threshold}")
    # In double precision, as milpath.metrics.evaluated_bags: a bag on the threshold must not fall to another side here.
    probabilities = probabilities.double()
    if task == "binary":
        return (probabilities[:, 1] >= threshold).long()
    if task == "ordinal":
        at_least = probabilities.flip(1).cumsum(1).flip(1)[:, 1:]
        return (at_least > 0.5).sum(1)
    return probabilities.argmax(1)


class BrierScore(Metric):
    """Mean over bags of the squared distance between probabilities and the one-hot label.

    For two classes this is the mean of `(p - y)^2` of the positive class (Brier 1950 divided by two, as commonly
    reported); for more classes the sum over classes.

    References:
        Brier. Verification of forecasts expressed in terms of probability. Monthly Weather Review 78, 1950, eq. 2.
    """

    full_state_update = False
    total: Tensor
    count: Tensor

    def __init__(self, **options: Any) -> None:
        super().__init__(**options)
        self.add_state("total", torch.tensor(0.0, dtype=torch.float64), dist_reduce_fx="sum")
        self.add_state("count", torch.tensor(0, dtype=torch.int64), dist_reduce_fx="sum")

    def update(self, probabilities: Tensor, labels: Tensor) -> None:
        """Add bags: probabilities `(bags, classes)`, labels `(bags,)`."""
        one_hot = torch.nn.functional.one_hot(labels, probabilities.shape[1])
        self.total += (probabilities.double() - one_hot).square().sum()
        self.count += labels.numel()

    def compute(self) -> Tensor:
        """Return the score, in [0, 2]."""
        return (self.total / self.count).float()


class SplitMetrics:
    """The bags of a split as they come, step by step and on several processes, and their metrics.

    Args:
        task: "binary", "nominal" or "ordinal".
        num_classes: Number of classes, at least 2.

    Raises:
        ValueError: If the task is none of the three.
    """

    def __init__(self, task: str, num_classes: int) -> None:
        metric_names(task, num_classes)
        self.task = task
        self._rows: list[Tensor] = []

    def update(self, probabilities: Tensor, labels: Tensor) -> None:
        """Add bags: probabilities `(bags, classes)`, labels int64 `(bags,)`; there may be none."""
        self._rows.append(torch.cat([probabilities.detach().float(), labels[:, None].float()], 1))

    def compute(self) -> dict[str, float | None]:
        """Return the metrics of the bags of all processes, see `compute_metrics`; all of them call it together."""
        rows = torch.cat(self._rows)
        if dist.is_available() and dist.is_initialized():
            # Once, and whole: that needs no more of a backend than to gather, whatever the metric.
            rows = torch.cat(gather_all_tensors(rows))
        rows = rows.cpu()
        return compute_metrics(rows[:, :-1], rows[:, -1].long(), self.task)

    def reset(self) -> None:
        """Forget all bags."""
        self._rows.clear()


def metric_names(task: str, num_classes: int) -> list[str]:
    """Return the names of the metrics of a task.

    Example:
        >>> metric_names("binary", 2)[:2]
        ['auroc', 'average_precision']
    """
    by_probability, by_class = _collections(task, num_classes)
    return [str(name) for metrics in (by_probability, by_class) for name in metrics]


def _collections(task: str, num_classes: int) -> tuple[MetricCollection, MetricCollection]:
    """Return the metrics that take probabilities and those that take the classes that bags are called."""
    by_probability: dict[str, Metric | MetricCollection]
    by_class: dict[str, Metric | MetricCollection]
    options: dict[str, Any] = {"sync_on_compute": False}
    if task == "binary":
        by_probability = {
            "auroc": tm.BinaryAUROC(**options),
            "average_precision": tm.BinaryAveragePrecision(**options),
            "brier": MeanSquaredError(**options),
            "ece": tm.BinaryCalibrationError(NUM_CALIBRATION_BINS, norm="l1", **options),
        }
        by_class = {
            "accuracy": tm.BinaryAccuracy(**options),
            "balanced_accuracy": tm.MulticlassAccuracy(2, average="macro", **options),
            "sensitivity": tm.BinaryRecall(**options),
            "specificity": tm.BinarySpecificity(**options),
            "f1": tm.BinaryF1Score(**options),
        }
    elif task in ("nominal", "ordinal"):
        by_probability = {
            "auroc": tm.MulticlassAUROC(num_classes, average="macro", **options),
            "average_precision": tm.MulticlassAveragePrecision(num_classes, average="macro", **options),
            "brier": BrierScore(**options),
            "ece": tm.MulticlassCalibrationError(num_classes, NUM_CALIBRATION_BINS, norm="l1", **options),
        }
        by_class = {
            "accuracy": tm.MulticlassAccuracy(num_classes, average="micro", **options),
            "balanced_accuracy": tm.MulticlassAccuracy(num_classes, average="macro", **options),
            "sensitivity": tm.MulticlassRecall(num_classes, average="macro", **options),
            "specificity": tm.MulticlassSpecificity(num_classes, average="macro", **options),
            "f1": tm.MulticlassF1Score(num_classes, average="macro", **options),
            "quadratic_kappa": tm.MulticlassCohenKappa(num_classes, weights="quadratic", **options),
        }
    else:
        raise ValueError(f"task {task!r} is none of binary, nominal, ordinal")
    # Compute groups would share state between metrics by comparing values of the first batch: a coincidence there
    # would go unnoticed.
    return MetricCollection(by_probability, compute_groups=False), MetricCollection(by_class, compute_groups=False)


def _undefined(task: str, missing: Sequence[int]) -> tuple[str, ...]:
    """Return the metrics that the labels seen do not define when these classes have no bag."""
    if not missing:
        return ()
    if task != "binary":
        return ("auroc", "average_precision")
    by_positive = ("sensitivity", "f1", "average_precision") if 1 in missing else ()
    return ("auroc", *by_positive, *(("specificity",) if 0 in missing else ()))


def compute_metrics(
    probabilities: Tensor, labels: Tensor, task: str, threshold: float = 0.5
) -> dict[str, float | None]:
    """Return all metrics of a set of bags at once.

    Binary tasks report sensitivity and specificity of class 1; tasks with more classes report their macro averages and
    quadratic-weighted kappa. A metric that is not defined on the labels seen (AUROC with one class) is None, never NaN
    and never 0.

    Args:
        probabilities: `(bags, classes)`, rows sum to 1.
        labels: int64 `(bags,)`.
        task: "binary", "nominal" or "ordinal".
        threshold: Operating point of a binary task.

    Raises:
        ValueError: If a probability is not finite.

    Returns:
        Metric name to value; None where the metric is not defined on these labels.

    Example:
        >>> result = compute_metrics(torch.tensor([[0.9, 0.1], [0.2, 0.8]]), torch.tensor([0, 1]), "binary")
        >>> result["auroc"], round(result["brier"], 3)
        (1.0, 0.025)
    """
    num_classes = probabilities.shape[1]
    probabilities = probabilities.float()
    if not bool(torch.isfinite(probabilities).all()):
        row = int((~torch.isfinite(probabilities)).any(1).nonzero()[0])
        raise ValueError(
            f"row {row} of the probabilities is {probabilities[row].tolist()}; a metric needs finite numbers"
        )
    by_probability, by_class = _collections(task, num_classes)
    with warnings.catch_warnings():
        # torchmetrics warns of classes without bags; the None below says the same where it is read.
        undefined = r".*(No positive samples|No negative samples|were missing|was `nan`).*"
        warnings.filterwarnings("ignore", message=undefined)
        by_probability.update(probabilities[:, 1].contiguous() if task == "binary" else probabilities, labels)
        by_class.update(predicted_classes(probabilities, task, threshold), labels)
        values = {**by_probability.compute(), **by_class.compute()}
    result: dict[str, float | None] = {name: float(value) for name, value in values.items()}
    for name in _undefined(task, (torch.bincount(labels, minlength=num_classes) == 0).nonzero().flatten().tolist()):
        result[name] = None
    return {name: value if value is not None and math.isfinite(value) else None for name, value in result.items()}
