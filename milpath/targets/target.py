"""Base class of targets: network outputs, loss, probabilities, predicted class and metrics."""

from abc import ABC, abstractmethod
from collections import Counter
from collections.abc import Mapping, Sequence
from typing import ClassVar

import numpy as np
from numpy.typing import NDArray
from torch import Tensor

from milpath.metrics.evaluated_bags import EvaluatedBags
from milpath.metrics.intervals import Interval
from milpath.metrics.weighted_metrics import metric_function, own_metric_names

Array = NDArray[np.float64]


class Target(ABC):
    """A classification target with several classes.

    There is one file per target: everything that depends on the target is a method or an attribute of it, so that
    training, evaluation, prediction, reports, the app and the endpoint cannot disagree. Your own target derives from
    this class or from one of the three built-in ones and is registered with `milpath.targets.register_target`.

    Attributes:
        name: Name in `data.task` and in the card of a checkpoint.
        positive_class: The class to which sensitivity, specificity and the threshold refer; `None` if all classes count
            equally and metrics are means over classes.
        metric_names: Names in `milpath.metrics.weighted_metrics.METRICS`, in the order of `metrics.json`.
        headline: The metrics at the top of a report.
        subgroup_metrics: The metrics of the tables by provider, grade or scanner.
        wrongness_title: Title of `wrongness` in a table.
    """

    name: ClassVar[str]
    positive_class: ClassVar[int | None] = None
    metric_names: ClassVar[tuple[str, ...]]
    headline: ClassVar[tuple[str, ...]]
    subgroup_metrics: ClassVar[tuple[str, ...]]
    wrongness_title: ClassVar[str] = "Error"

    @property
    def has_threshold(self) -> bool:
        """Whether bags are classified by a threshold on the probability of the positive class."""
        return self.positive_class is not None

    @property
    def reported_metrics(self) -> tuple[str, ...]:
        """Names of all reported metrics: those of the target, then user-defined ones."""
        return (*self.metric_names, *(name for name in own_metric_names() if name not in self.metric_names))

    @abstractmethod
    def num_outputs(self, num_classes: int) -> int:
        """Return the number of logits that a network needs.

        Raises:
            ValueError: If the target does not fit the number of classes.
        """

    @abstractmethod
    def losses(self, logits: Tensor, labels: Tensor) -> Tensor:
        """Return the loss of each bag, `(bags,)`, each >= 0.

        Args:
            logits: `(bags, num_outputs)`.
            labels: int64 `(bags,)`.
        """

    @abstractmethod
    def probabilities(self, logits: Tensor, temperature: float = 1.0) -> Tensor:
        """Return the probability of each class, `(bags, classes)`; rows sum to 1.

        Args:
            logits: `(bags, num_outputs)`.
            temperature: Divides the logits; > 0.
        """

    @abstractmethod
    def at_temperature(self, probabilities: Array, temperature: float) -> Array:
        """Return the probabilities after division of the logits by a temperature, `(bags, classes)`."""

    @abstractmethod
    def predicted_classes(self, probabilities: Array, threshold: float = 0.5) -> NDArray[np.int64]:
        """Return the predicted class of each bag, `(bags,)`.

        Args:
            probabilities: `(bags, classes)`, rows sum to 1.
            threshold: Operating point of a target with a positive class, in [0, 1]; others ignore it.
        """

    @abstractmethod
    def sentence(
        self, outcomes: EvaluatedBags, where: str, class_names: Sequence[str], intervals: Mapping[str, Interval]
    ) -> str:
        """Return the headline result as a sentence, in numbers of bags.

        Args:
            outcomes: Evaluated bags of one split.
            where: Start of the sentence: "Of 40 test bags".
            class_names: Names of the classes.
            intervals: Metric name to interval on this split.
        """

    def undefined_metrics(self, missing: Sequence[int]) -> tuple[str, ...]:
        """Return the metrics that are undefined if some classes, given by index, have no bags."""
        return ("auroc", "average_precision") if missing else ()

    def metrics(self, outcomes: EvaluatedBags) -> dict[str, float | None]:
        """Return all metrics of a set of bags; `None` (never NaN or 0) if undefined on these labels."""
        missing = np.flatnonzero(np.bincount(outcomes.labels, minlength=outcomes.num_classes) == 0).tolist()
        undefined = self.undefined_metrics(missing)
        names = self.reported_metrics
        values = {name: float(metric_function(name)(outcomes)) for name in names if name not in undefined}
        return {name: values[name] if np.isfinite(values.get(name, np.nan)) else None for name in names}

    def wrongness(self, outcomes: EvaluatedBags) -> Array:
        """Return the distance of the probabilities from the truth, `(bags,)`; 0 is correct and certain."""
        return np.asarray(1 - outcomes.probabilities[np.arange(outcomes.num_bags), outcomes.labels])


def require_classes(num_classes: int) -> int:
    """Return the number of classes; refuse fewer than two."""
    if num_classes < 2:
        raise ValueError(f"a task needs at least 2 classes, not {num_classes}")
    return num_classes


def share_in_words(interval: Interval) -> str:
    """Return a share with its interval in parentheses, or an empty string if undefined."""
    if interval.value is None:
        return ""
    if interval.low is None or interval.high is None:
        return f" ({interval.value:.0%})"
    return f" ({interval.value:.0%}, 95% interval {interval.low:.0%} to {interval.high:.0%})"


def require_class_names(names: Sequence[str]) -> None:
    """Refuse class names that do not distinguish the classes.

    Raises:
        ValueError: If a name is empty or used twice.
    """
    if any(not name.strip() for name in names):
        raise ValueError(
            f"class_names has an empty name at position {[bool(name.strip()) for name in names].index(False)}"
        )
    if twice := [name for name, count in Counter(name.strip() for name in names).items() if count > 1]:
        raise ValueError(f"class_names has {twice[0]!r} more than once; each class needs a name of its own")
