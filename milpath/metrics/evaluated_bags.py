"""Labels, probabilities and predicted classes of a set of bags, from which all metrics are computed."""

from dataclasses import dataclass, replace
from typing import Protocol, Self

import numpy as np
from numpy.typing import NDArray


class Outcomes(Protocol):
    """Labels and predictions of a set of bags, of any target."""

    @property
    def num_bags(self) -> int:
        """Number of bags."""

    @property
    def groups(self) -> NDArray[np.str_] | None:
        """`(bags,)` group of each bag (patient, duplicates); `None` if all bags are independent."""

    def part(self, rows: NDArray[np.int64]) -> Self:
        """Return a subset of bags, given by row; a row may occur more than once."""


@dataclass(frozen=True)
class EvaluatedBags:
    """Label, probabilities and predicted class of each bag.

    Attributes:
        labels: int `(bags,)`, in 0..classes-1.
        probabilities: `(bags, classes)`, rows sum to 1.
        predicted: int `(bags,)`, the predicted class.
        positive_class: The class to detect; `None` if all classes count equally.
        groups: `(bags,)` group of each bag (patient, duplicates); `None` if all bags are independent.
    """

    labels: NDArray[np.int64]
    probabilities: NDArray[np.float64]
    predicted: NDArray[np.int64]
    positive_class: int | None = None
    groups: NDArray[np.str_] | None = None

    def part(self, rows: NDArray[np.int64]) -> Self:
        """Return the outcomes of a subset of bags, given by row."""
        return replace(
            self,
            labels=self.labels[rows],
            probabilities=self.probabilities[rows],
            predicted=self.predicted[rows],
            groups=None if self.groups is None else self.groups[rows],
        )

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
        """The largest class probability of each bag, `(bags,)`."""
        return np.asarray(self.probabilities.max(axis=1))

    @property
    def correct(self) -> NDArray[np.bool_]:
        """Whether each bag is predicted correctly, `(bags,)`."""
        return np.asarray(self.predicted == self.labels)


def at_least(probabilities: NDArray[np.float64]) -> NDArray[np.float64]:
    """Return the probabilities that the class is at least 1, 2, ..., `(bags, classes - 1)`."""
    return np.cumsum(probabilities[:, ::-1], axis=1)[:, ::-1][:, 1:]
