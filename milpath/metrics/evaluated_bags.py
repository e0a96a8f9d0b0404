"""Labels, probabilities and calls of a set of bags: what every number of a report is computed from."""

from dataclasses import dataclass, replace

import numpy as np
from numpy.typing import NDArray


@dataclass(frozen=True)
class Outcomes:
    """What is true, what was predicted and what was called, bag by bag.

    Attributes:
        labels: int `(bags,)`, in 0..classes-1.
        probabilities: `(bags, classes)`, rows sum to 1.
        predicted: int `(bags,)`, the class each bag is called.
        positive_class: The class that is looked for; None where all classes count alike.
        groups: `(bags,)` what belongs together (patient, duplicate group); None where every bag stands alone.
    """

    labels: NDArray[np.int64]
    probabilities: NDArray[np.float64]
    predicted: NDArray[np.int64]
    positive_class: int | None = None
    groups: NDArray[np.str_] | None = None

    def part(self, rows: NDArray[np.int64]) -> "Outcomes":
        """Return the outcomes of some bags, given by row."""
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
        """The greatest class probability of each bag, `(bags,)`."""
        return np.asarray(self.probabilities.max(axis=1))

    @property
    def correct(self) -> NDArray[np.bool_]:
        """Whether each bag is called what it is, `(bags,)`."""
        return np.asarray(self.predicted == self.labels)


def at_least(probabilities: NDArray[np.float64]) -> NDArray[np.float64]:
    """Return the probabilities of the classes 1, 2, ... or higher, `(bags, classes - 1)`."""
    return np.cumsum(probabilities[:, ::-1], axis=1)[:, ::-1][:, 1:]
