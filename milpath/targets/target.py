"""The contract of a target: what a bag is asked, how the network learns it, and how an answer is read."""

from abc import ABC, abstractmethod
from collections import Counter
from collections.abc import Mapping, Sequence
from typing import ClassVar

import numpy as np
from numpy.typing import NDArray
from torch import Tensor

from milpath.metrics.evaluated_bags import Outcomes
from milpath.metrics.intervals import Interval
from milpath.metrics.weighted_metrics import metric_function, own_metric_names

Array = NDArray[np.float64]


class Target(ABC):
    """A question whose answer is one of several classes.

    One file per target: everything that depends on it is a method or an attribute here, so that training, evaluation,
    prediction, reports, the app and the endpoint cannot disagree. A target of your own derives from this class or from one
    of the three that exist, and is registered with `milpath.targets.register_target`.

    Attributes:
        name: As in `data.task` and in the card of a checkpoint.
        positive_class: The class that sensitivity, specificity and the threshold are about; None where all classes count
            alike and metrics are means over the classes.
        metric_names: Names in `milpath.metrics.weighted_metrics.METRICS`, in the order of `metrics.json`.
        headline: The metrics that stand at the top of a report.
        subgroup_metrics: The metrics of the tables by provider, grade or scanner.
        wrongness_title: What `wrongness` is called in a table.
    """

    name: ClassVar[str]
    positive_class: ClassVar[int | None] = None
    metric_names: ClassVar[tuple[str, ...]]
    headline: ClassVar[tuple[str, ...]]
    subgroup_metrics: ClassVar[tuple[str, ...]]
    wrongness_title: ClassVar[str] = "Error"

    @property
    def has_threshold(self) -> bool:
        """Whether a bag is called by a threshold on the probability of the positive class."""
        return self.positive_class is not None

    @property
    def reported_metrics(self) -> tuple[str, ...]:
        """Names of all metrics that are reported: those of the target, then those of the user's own."""
        return (*self.metric_names, *(name for name in own_metric_names() if name not in self.metric_names))

    @abstractmethod
    def num_outputs(self, num_classes: int) -> int:
        """Return how many logits a network needs.

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
        """Return the probabilities that the logits divided by a temperature would have given, `(bags, classes)`."""

    @abstractmethod
    def predicted_classes(self, probabilities: Array, threshold: float = 0.5) -> NDArray[np.int64]:
        """Return the class that each bag is called, `(bags,)`.

        Args:
            probabilities: `(bags, classes)`, rows sum to 1.
            threshold: Operating point of a target with a positive class, in [0, 1]; the others ignore it.
        """

    @abstractmethod
    def sentence(
        self, outcomes: Outcomes, where: str, class_names: Sequence[str], intervals: Mapping[str, Interval]
    ) -> str:
        """Return what the headline means, counted in bags.

        Args:
            outcomes: Of one split.
            where: How the sentence begins: "Of 40 test bags".
            class_names: Names of the classes.
            intervals: Metric to interval on this split.
        """

    def undefined_metrics(self, missing: Sequence[int]) -> tuple[str, ...]:
        """Return the metrics without a value when some classes, given by number, have no bag."""
        return ("auroc", "average_precision") if missing else ()

    def metrics(self, outcomes: Outcomes) -> dict[str, float | None]:
        """Return every metric of a set of bags; None where it is not defined on these labels, never NaN and never 0."""
        missing = np.flatnonzero(np.bincount(outcomes.labels, minlength=outcomes.num_classes) == 0).tolist()
        undefined = self.undefined_metrics(missing)
        names = self.reported_metrics
        values = {name: float(metric_function(name)(outcomes)) for name in names if name not in undefined}
        return {name: values[name] if np.isfinite(values.get(name, np.nan)) else None for name in names}

    def wrongness(self, outcomes: Outcomes) -> Array:
        """Return how far the probabilities are from the truth, `(bags,)`; 0 is right and certain."""
        return np.asarray(1 - outcomes.probabilities[np.arange(outcomes.num_bags), outcomes.labels])


def share_in_words(interval: Interval) -> str:
    """Return a share with its interval in parentheses, or nothing where it is not defined."""
    if interval.value is None:
        return ""
    if interval.low is None or interval.high is None:
        return f" ({interval.value:.0%})"
    return f" ({interval.value:.0%}, 95% interval {interval.low:.0%} to {interval.high:.0%})"


def require_class_names(names: Sequence[str]) -> None:
    """Refuse names by which a reader could not tell the classes apart.

    Raises:
        ValueError: If a name is empty or stands for two classes.
    """
    if any(not name.strip() for name in names):
        raise ValueError(
            f"class_names has an empty name at position {[bool(name.strip()) for name in names].index(False)}"
        )
    if twice := [name for name, count in Counter(name.strip() for name in names).items() if count > 1]:
        raise ValueError(f"class_names has {twice[0]!r} more than once; each class needs a name of its own")
