"""The metrics of a split: one definition for the epochs of a run and for its final numbers."""

import warnings
from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor
from torchmetrics import MeanSquaredError, Metric, MetricCollection
from torchmetrics import classification as tm

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


class SplitMetrics(torch.nn.Module):
    """All metrics of one split, fed with probabilities bag by bag and synchronised over processes.

    Binary tasks report sensitivity and specificity of class 1; tasks with more classes report their macro averages and
    quadratic-weighted kappa. A metric that is not defined on the labels seen (AUROC with one class) is None in
    `compute`, never NaN and never 0.

    Args:
        task: "binary", "nominal" or "ordinal".
        num_classes: Number of classes, at least 2.
        threshold: Operating point of a binary task.
        sync: Whether `compute` counts the bags of all processes; off where one process has all of them.

    Raises:
        ValueError: If the task is none of the three.
    """

    def __init__(self, task: str, num_classes: int, threshold: float = 0.5, sync: bool = True) -> None:
        super().__init__()
        self.task = task
        self.num_classes = num_classes
        self.threshold = threshold
        options: dict[str, Any] = {"sync_on_compute": sync}
        if task == "binary":
            by_probability: dict[str, Metric | MetricCollection] = {
                "auroc": tm.BinaryAUROC(**options),
                "average_precision": tm.BinaryAveragePrecision(**options),
                "brier": MeanSquaredError(**options),
                "ece": tm.BinaryCalibrationError(NUM_CALIBRATION_BINS, norm="l1", **options),
            }
            by_class: dict[str, Metric | MetricCollection] = {
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
        # would go unnoticed, and the saving is not measurable at a few thousand bags.
        self.by_probability = MetricCollection(by_probability, compute_groups=False)
        self.by_class = MetricCollection(by_class, compute_groups=False)
        self.class_counts = _ClassCounts(num_classes, **options)

    def update(self, probabilities: Tensor, labels: Tensor) -> None:
        """Add bags: probabilities `(bags, classes)`, labels int64 `(bags,)`."""
        probabilities = probabilities.float()
        self.class_counts.update(labels)
        score = probabilities[:, 1].contiguous() if self.task == "binary" else probabilities
        self.by_probability.update(score, labels)
        self.by_class.update(predicted_classes(probabilities, self.task, self.threshold), labels)

    def compute(self) -> dict[str, float | None]:
        """Return every metric as a number, None where the labels seen do not define it."""
        counts = self.class_counts.compute()
        missing = (counts == 0).nonzero().flatten().tolist()
        with warnings.catch_warnings():
            # torchmetrics warns of classes without bags; the None below says the same where it is read.
            undefined = r".*(No positive samples|No negative samples|were missing|was `nan`).*"
            warnings.filterwarnings("ignore", message=undefined)
            values = {**self.by_probability.compute(), **self.by_class.compute()}
        result: dict[str, float | None] = {name: float(value) for name, value in values.items()}
        for name in _undefined(self.task, missing):
            result[name] = None
        return {name: None if value is not None and value != value else value for name, value in result.items()}

    def reset(self) -> None:
        """Forget all bags."""
        self.by_probability.reset()
        self.by_class.reset()
        self.class_counts.reset()


def metric_names(task: str, num_classes: int) -> list[str]:
    """Return the names of the metrics of a task.

    Example:
        >>> metric_names("binary", 2)[:2]
        ['auroc', 'average_precision']
    """
    metrics = SplitMetrics(task, num_classes, sync=False)
    return [str(name) for group in (metrics.by_probability, metrics.by_class) for name in group.keys()]  # noqa: SIM118


class _ClassCounts(Metric):
    """Number of bags of each class."""

    full_state_update = False
    counts: Tensor

    def __init__(self, num_classes: int, **options: Any) -> None:
        super().__init__(**options)
        self.add_state("counts", torch.zeros(num_classes, dtype=torch.int64), dist_reduce_fx="sum")

    def update(self, labels: Tensor) -> None:
        self.counts += torch.bincount(labels, minlength=len(self.counts))

    def compute(self) -> Tensor:
        return self.counts


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

    Args:
        probabilities: `(bags, classes)`, rows sum to 1.
        labels: int64 `(bags,)`.
        task: "binary", "nominal" or "ordinal".
        threshold: Operating point of a binary task.

    Returns:
        Metric name to value; None where the metric is not defined on these labels.

    Example:
        >>> result = compute_metrics(torch.tensor([[0.9, 0.1], [0.2, 0.8]]), torch.tensor([0, 1]), "binary")
        >>> result["auroc"], round(result["brier"], 3)
        (1.0, 0.025)
    """
    metrics = SplitMetrics(task, probabilities.shape[1], threshold, sync=False)
    metrics.update(probabilities, labels)
    return metrics.compute()
