"""Labels, probabilities and calls of a set of bags: what every number of a report is computed from."""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

TASKS = ("binary", "nominal", "ordinal")


@dataclass(frozen=True)
class Outcomes:
    """What is true, what was predicted and what was called, bag by bag.

    Attributes:
        labels: int `(bags,)`, in 0..classes-1.
        probabilities: `(bags, classes)`, rows sum to 1.
        predicted: int `(bags,)`, the class each bag is called.
        task: "binary", "nominal" or "ordinal".
        groups: `(bags,)` what belongs together (patient, duplicate group); None where every bag stands alone.
    """

    labels: NDArray[np.int64]
    probabilities: NDArray[np.float64]
    predicted: NDArray[np.int64]
    task: str
    groups: NDArray[np.str_] | None = None

    @property
    def num_bags(self) -> int:
        """Number of bags."""
        return len(self.labels)

    @property
    def num_classes(self) -> int:
        """Number of classes."""
        return int(self.probabilities.shape[1])

    @property
    def confidence(self) -> NDArray[np.float64]:
        """The greatest class probability of each bag, `(bags,)`."""
        return np.asarray(self.probabilities.max(axis=1))

    @property
    def correct(self) -> NDArray[np.bool_]:
        """Whether each bag is called what it is, `(bags,)`."""
        return np.asarray(self.predicted == self.labels)


def make_outcomes(
    labels: Sequence[int] | NDArray[np.integer],
    probabilities: NDArray[np.floating],
    task: str,
    threshold: float = 0.5,
    groups: Sequence[object] | NDArray[np.generic] | None = None,
) -> Outcomes:
    """Check arrays and call each bag a class.

    Args:
        labels: `(bags,)`, in 0..classes-1.
        probabilities: `(bags, classes)`, rows sum to 1.
        task: "binary", "nominal" or "ordinal".
        threshold: Operating point of a binary task, in [0, 1].
        groups: `(bags,)` what belongs together; None where every bag stands alone.

    Raises:
        ValueError: If shapes, labels, probabilities or task do not fit together.

    Example:
        >>> outcomes = make_outcomes([0, 1], np.array([[0.9, 0.1], [0.6, 0.4]]), "binary", threshold=0.3)
        >>> outcomes.predicted.tolist(), outcomes.confidence.tolist()
        ([0, 1], [0.9, 0.6])
    """
    label_array = np.asarray(labels, dtype=np.int64)
    probability_array = np.asarray(probabilities, dtype=np.float64)
    _check(label_array, probability_array, task)
    if groups is not None and len(groups) != len(label_array):
        raise ValueError(f"{len(label_array)} bags have {len(groups)} groups; give one group per bag")
    return Outcomes(
        labels=label_array,
        probabilities=probability_array,
        predicted=predicted_classes(probability_array, task, threshold),
        task=task,
        groups=None if groups is None else np.asarray([str(group) for group in groups]),
    )


def predicted_classes(probabilities: NDArray[np.float64], task: str, threshold: float = 0.5) -> NDArray[np.int64]:
    """Return the class each bag is called.

    Args:
        probabilities: `(bags, classes)`, rows sum to 1.
        task: "binary" (class 1 from `threshold` on), "nominal" (most probable class) or "ordinal" (the median class,
            which is the number of cumulative probabilities above one half).
        threshold: Operating point of a binary task, in [0, 1].

    Returns:
        int64 `(bags,)`.

    Raises:
        ValueError: If the threshold is not finite.
    """
    if not np.isfinite(threshold):
        raise ValueError(f"a threshold must be a finite number in [0, 1], got {threshold}")
    if task == "binary":
        return (probabilities[:, 1] >= threshold).astype(np.int64)
    if task == "ordinal":
        return np.asarray((at_least(probabilities) > 0.5).sum(axis=1), dtype=np.int64)
    return np.asarray(probabilities.argmax(axis=1), dtype=np.int64)


def at_least(probabilities: NDArray[np.float64]) -> NDArray[np.float64]:
    """Return the probabilities of the classes 1, 2, ... or higher, `(bags, classes - 1)`."""
    return np.cumsum(probabilities[:, ::-1], axis=1)[:, ::-1][:, 1:]


def _check(labels: NDArray[np.int64], probabilities: NDArray[np.float64], task: str) -> None:
    """Refuse arrays that cannot be outcomes."""
    if task not in TASKS:
        raise ValueError(f"task {task!r} is none of {', '.join(TASKS)}")
    if probabilities.ndim != 2 or probabilities.shape[1] < 2 or len(labels) != len(probabilities):
        raise ValueError(
            f"expected labels (bags,) and probabilities (bags, classes >= 2), got {labels.shape} and {probabilities.shape}"
        )
    if task == "binary" and probabilities.shape[1] != 2:
        raise ValueError(f"a binary task has 2 classes, the probabilities have {probabilities.shape[1]}")
    if not np.isfinite(probabilities).all() or np.abs(probabilities.sum(axis=1) - 1).max(initial=0) > 1e-3:
        raise ValueError("probabilities must be finite and each row must sum to 1")
    if len(labels) and not 0 <= labels.min() <= labels.max() < probabilities.shape[1]:
        raise ValueError(f"labels must lie in 0..{probabilities.shape[1] - 1}, got {labels.min()}..{labels.max()}")
