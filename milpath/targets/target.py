"""Base classes of targets: network outputs, loss, predictions and metrics."""

from abc import ABC, abstractmethod
from collections import Counter
from collections.abc import Mapping, Sequence
from typing import Any, ClassVar, Self

import numpy as np
from numpy.typing import NDArray
from torch import Tensor

from milpath.metrics.conformal import CLASSES
from milpath.metrics.evaluated_bags import EvaluatedBags, Outcomes
from milpath.metrics.intervals import Interval
from milpath.metrics.weighted_metrics import metric_function, own_metric_names
from milpath.targets.averaged_answers import AveragedAnswers

Array = NDArray[np.float64]


class Target(AveragedAnswers, ABC):
    """What is predicted of a bag: one of several classes (`ClassTarget`) or numbers (`NumericTarget`).

    There is one file per target: everything that depends on the target is a method or an attribute of it, so that
    training, evaluation, prediction, reports, the app and the endpoint cannot disagree. Your own target derives from one
    of the built-in ones and is registered with `milpath.targets.register_target`.

    Attributes:
        name: Name in `data.task` and in the card of a checkpoint.
        has_classes: Whether a bag has one of several classes; otherwise there is no predicted class, no threshold, no
            temperature and no deferral.
        over_batch: Whether the loss of a bag depends on the other bags of the step; it is then computed over the bags of
            all processes, and in validation over the whole split.
        metric_names: Names in `milpath.metrics.weighted_metrics.METRICS`, in the order of `metrics.json`.
        headline: The metrics at the top of a report.
        subgroup_metrics: The metrics of the tables by provider, grade or scanner.
        hidden_metrics: Metrics that a report does not show, although `metrics.json` keeps them.
        wrongness_title: Title of `wrongness` in a table.
        set_kind: Kind of its prediction sets in `milpath.metrics.conformal`; `None` if it has none.
        without_sets: Why it has none, for messages.
    """

    name: ClassVar[str]
    has_classes: ClassVar[bool]
    wrongness_title: ClassVar[str] = "Error"
    set_kind: ClassVar[str | None] = None
    without_sets: ClassVar[str] = "it defines none"
    hidden_metrics: ClassVar[tuple[str, ...]] = ()

    @property
    def over_batch(self) -> bool:
        """Whether the loss of a bag depends on the other bags of the step."""
        return False

    @property
    @abstractmethod
    def metric_names(self) -> tuple[str, ...]:
        """Names of the metrics of the target."""

    @property
    @abstractmethod
    def headline(self) -> tuple[str, ...]:
        """The metrics at the top of a report."""

    @property
    @abstractmethod
    def subgroup_metrics(self) -> tuple[str, ...]:
        """The metrics of the tables by provider, grade or scanner."""

    @property
    def decides(self) -> bool:
        """Whether a threshold, a temperature or a deferral is chosen on the validation split."""
        return self.has_classes

    @property
    def has_threshold(self) -> bool:
        """Whether bags are classified by a threshold on the probability of the positive class."""
        return False

    @property
    def reported_metrics(self) -> tuple[str, ...]:
        """Names of all reported metrics: those of the target, then user-defined ones."""
        return (*self.metric_names, *(name for name in own_metric_names() if name not in self.metric_names))

    @abstractmethod
    def num_outputs(self, num_classes: int) -> int:
        """Return the number of logits that a network needs.

        Args:
            num_classes: Number of classes, or of the quantities that a target without classes predicts.

        Raises:
            ValueError: If the target does not fit that number.
        """

    def outputs_per_target(self, num_classes: int) -> tuple[int, ...]:
        """Return the number of logits of each target, if there are several at once; otherwise all of them."""
        return (self.num_outputs(num_classes),)

    @abstractmethod
    def losses(self, logits: Tensor, labels: Tensor) -> Tensor:
        """Return the loss of each bag, `(bags,)`.

        Args:
            logits: `(bags, num_outputs)`.
            labels: int64 `(bags,)`, or float `(bags, label columns)` of a target without classes.
        """

    @abstractmethod
    def answers(self, logits: Tensor, temperature: float = 1.0) -> Tensor:
        """Return what is predicted of each bag: class probabilities or numbers, `(bags, columns)`.

        Args:
            logits: `(bags, num_outputs)`.
            temperature: Divides the logits of a target with classes; > 0. Others ignore it.
        """

    @abstractmethod
    def evaluate(
        self, labels: NDArray[Any], answers: Array, threshold: float = 0.5, groups: NDArray[np.str_] | None = None
    ) -> Outcomes:
        """Return labels and predictions of bags, from which all metrics are computed.

        Args:
            labels: As in `losses`.
            answers: `(bags, columns)` of `answers`.
            threshold: Operating point of a target with a positive class, in [0, 1]; others ignore it.
            groups: `(bags,)` group of each bag; `None` if all bags are independent.

        Raises:
            ValueError: If shapes or values do not fit the target.
        """

    @abstractmethod
    def metrics(self, outcomes: Any) -> dict[str, float | None]:
        """Return all metrics of a set of bags; `None` (never NaN or 0) if undefined on these labels."""

    @abstractmethod
    def wrongness(self, outcomes: Any) -> Array:
        """Return the distance of the prediction from the truth, `(bags,)`; 0 is correct."""

    @abstractmethod
    def sentence(self, outcomes: Any, where: str, class_names: Sequence[str], intervals: Mapping[str, Interval]) -> str:
        """Return the headline result as a sentence, in numbers of bags.

        Args:
            outcomes: Evaluated bags of one split.
            where: Start of the sentence: "Of 40 test bags".
            class_names: Names of the classes, or of the predicted quantities.
            intervals: Metric name to interval on this split.
        """

    def set_answers(self, answers: Array) -> Array:
        """Return what prediction sets are made of: probabilities, numbers, or the outer quantiles of numbers.

        Args:
            answers: `(..., columns)` of `answers`.
        """
        return answers

    def map_names(self, class_names: Sequence[str]) -> Sequence[str]:
        """Return the names of the maps of a network that has one per logit."""
        return class_names

    def fitted_on(self, labels: NDArray[Any]) -> Self:
        """Return the target with what it fits on the labels of the training split; classes fit nothing."""
        return self

    def deferring_all(self) -> Self:
        """Return the target that defers every bag, if it keeps the decision itself; otherwise the card does."""
        return self

    def state(self) -> dict[str, Any]:
        """Return options and fitted values as plain values, which a checkpoint keeps; empty if there are none."""
        return {}

    def with_state(self, state: Mapping[str, Any]) -> Self:
        """Return the target with the state of a checkpoint, which is untrusted.

        Raises:
            ValueError: If a value is missing or invalid.
        """
        if state:
            raise ValueError(f"a {self.name} task has no fitted values, but the card has {', '.join(map(str, state))}")
        return self


class ClassTarget(Target):
    """A target with several classes.

    Attributes:
        positive_class: The class to which sensitivity, specificity and the threshold refer; `None` if all classes count
            equally and metrics are means over classes.
    """

    has_classes = True
    set_kind = CLASSES
    positive_class: ClassVar[int | None] = None

    @property
    def has_threshold(self) -> bool:
        return self.positive_class is not None

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

    def answers(self, logits: Tensor, temperature: float = 1.0) -> Tensor:
        return self.probabilities(logits, temperature)

    def evaluate(
        self, labels: NDArray[Any], answers: Array, threshold: float = 0.5, groups: NDArray[np.str_] | None = None
    ) -> EvaluatedBags:
        label_array = np.asarray(labels, dtype=np.int64)
        probabilities = np.asarray(answers, dtype=np.float64)
        require_probabilities(label_array, probabilities)
        self.num_outputs(probabilities.shape[1])
        return EvaluatedBags(
            labels=label_array,
            probabilities=probabilities,
            predicted=self.predicted_classes(probabilities, threshold),
            positive_class=self.positive_class,
            groups=groups,
        )

    def undefined_metrics(self, missing: Sequence[int]) -> tuple[str, ...]:
        """Return the metrics that are undefined if some classes, given by index, have no bags."""
        return ("auroc", "average_precision") if missing else ()

    def metrics(self, outcomes: EvaluatedBags) -> dict[str, float | None]:
        missing = np.flatnonzero(np.bincount(outcomes.labels, minlength=outcomes.num_classes) == 0).tolist()
        undefined = self.undefined_metrics(missing)
        names = self.reported_metrics
        values = {name: float(metric_function(name)(outcomes)) for name in names if name not in undefined}
        return {name: values[name] if np.isfinite(values.get(name, np.nan)) else None for name in names}

    def wrongness(self, outcomes: EvaluatedBags) -> Array:
        """Return the distance of the probabilities from the truth, `(bags,)`; 0 is correct and certain."""
        return np.asarray(1 - outcomes.probabilities[np.arange(outcomes.num_bags), outcomes.labels])


def require_probabilities(labels: NDArray[np.int64], probabilities: Array) -> None:
    """Refuse labels and class probabilities with invalid shapes or values."""
    if probabilities.ndim != 2 or probabilities.shape[1] < 2 or len(labels) != len(probabilities):
        raise ValueError(
            f"expected labels (bags,) and probabilities (bags, classes >= 2), got {labels.shape} and {probabilities.shape}"
        )
    if not np.isfinite(probabilities).all() or np.abs(probabilities.sum(axis=1) - 1).max(initial=0) > 1e-3:
        raise ValueError("probabilities must be finite and each row must sum to 1")
    if len(labels) and not 0 <= labels.min() <= labels.max() < probabilities.shape[1]:
        raise ValueError(f"labels must be in 0..{probabilities.shape[1] - 1}, got {labels.min()}..{labels.max()}")


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
        ValueError: If a name is empty, used twice or no Unicode text, which no file could be written with.
    """
    if broken := [name for name in names if name.encode("utf-8", "ignore").decode() != name]:
        raise ValueError(f"class_names has {broken[0]!r}, which is no text: half of a pair of UTF-16; write it again")
    if empty := [position for position, name in enumerate(names) if not name.strip()]:
        raise ValueError(f"class_names has an empty name at position {empty[0]}")
    if twice := [name for name, count in Counter(name.strip() for name in names).items() if count > 1]:
        raise ValueError(f"class_names has {twice[0]!r} more than once; each class needs a name of its own")
