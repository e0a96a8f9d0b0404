"""Labels and predicted numbers of a set of bags, from which the metrics of regression are computed."""

from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Self

import numpy as np
from numpy.typing import NDArray

Array = NDArray[np.float64]


@dataclass(frozen=True)
class EvaluatedNumbers:
    """True and predicted numbers of each bag.

    Attributes:
        labels: `(bags, quantities)`, in the units of the table.
        answers: `(bags, quantities)`, likewise.
        names: Name of each quantity.
        groups: `(bags,)` group of each bag (patient, duplicates); `None` if all bags are independent.
        quantiles: `(bags, quantities, levels)`, ascending; `None` if none are predicted.
        levels: Levels of the quantiles.
    """

    labels: Array
    answers: Array
    names: Sequence[str]
    groups: NDArray[np.str_] | None = None
    quantiles: Array | None = None
    levels: Sequence[float] = ()

    def part(self, rows: NDArray[np.int64]) -> Self:
        """Return a subset of bags, given by row."""
        groups = None if self.groups is None else self.groups[rows]
        quantiles = None if self.quantiles is None else self.quantiles[rows]
        return replace(self, labels=self.labels[rows], answers=self.answers[rows], groups=groups, quantiles=quantiles)

    @property
    def num_bags(self) -> int:
        """Number of bags."""
        return len(self.labels)

    @property
    def residuals(self) -> Array:
        """Predicted minus true number, `(bags, quantities)`."""
        return self.answers - self.labels


def evaluated_numbers(
    labels: NDArray[np.floating], answers: Array, names: Sequence[str], groups: NDArray[np.str_] | None = None
) -> EvaluatedNumbers:
    """Validate arrays of numbers.

    Raises:
        ValueError: If shapes do not fit together or a number is not finite.

    Example:
        >>> evaluated_numbers(np.array([[60.0], [70.0]]), np.array([[62.0], [69.0]]), ["age"]).residuals.tolist()
        [[2.0], [-1.0]]
    """
    truth, predicted = (np.asarray(values, dtype=np.float64) for values in (labels, answers))
    if truth.ndim != 2 or truth.shape != predicted.shape or truth.shape[1] != len(names):
        raise ValueError(
            f"expected labels and predictions (bags, {len(names)}) of {', '.join(names)}, got {truth.shape} and "
            f"{predicted.shape}"
        )
    for what, values in (("labels", truth), ("predictions", predicted)):
        if not (finite := np.isfinite(values).all(axis=1)).all():
            row = int(finite.argmin())
            raise ValueError(f"row {row} of the {what} is {values[row].tolist()}; they must be finite")
    return EvaluatedNumbers(truth, predicted, tuple(names), groups)
