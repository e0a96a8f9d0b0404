"""Labels and predictions of a set of bags for several targets, each on the bags that have its label."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any, Self

import numpy as np
from numpy.typing import NDArray

from milpath.metrics.evaluated_bags import EvaluatedBags

Array = NDArray[np.float64]
Rows = NDArray[np.int64]
MACRO = "macro_"


@dataclass(frozen=True)
class EvaluatedSeveral:
    """The outcomes of several targets.

    Attributes:
        outcomes: Name of a target to its outcomes on the bags that have its label.
        rows: Name of a target to the positions of these bags, `(bags with its label,)`.
        num_bags: Number of bags, with or without labels.
        groups: `(bags,)` group of each bag (patient, duplicates); `None` if all bags are independent.
    """

    outcomes: Mapping[str, Any]
    rows: Mapping[str, Rows]
    num_bags: int
    groups: NDArray[np.str_] | None = None

    def of(self, name: str) -> Any:
        """Return the outcomes of a target.

        Raises:
            ValueError: If there is no such target.
        """
        if name not in self.outcomes:
            raise ValueError(f"there is no target {name!r}; these predictions have {', '.join(self.outcomes)}")
        return self.outcomes[name]

    def part(self, rows: Rows) -> Self:
        """Return a subset of bags, given by row; a row may occur more than once."""
        outcomes, kept = {}, {}
        for name, each in self.outcomes.items():
            place = np.full(self.num_bags, -1, dtype=np.int64)
            place[self.rows[name]] = np.arange(each.num_bags)
            own = place[rows]
            outcomes[name], kept[name] = each.part(own[own >= 0]), np.flatnonzero(own >= 0)
        groups = None if self.groups is None else self.groups[rows]
        return type(self)(outcomes, kept, len(rows), groups)


def of_target(
    name: str, function: Callable[..., Array], outcomes: EvaluatedSeveral, weights: Array | None = None
) -> Array:
    """Return the metric of one target on the bags that have its label; NaN if none has.

    Args:
        name: Name of the target.
        function: The metric of its outcomes.
        outcomes: The outcomes of all targets.
        weights: `(..., bags)` >= 0 of all bags, how often each counts; `None` means once.
    """
    own = outcomes.of(name)
    if not own.num_bags:
        return np.full(() if weights is None else weights.shape[:-1], np.nan)
    if weights is None:
        return function(own)
    with np.errstate(invalid="ignore"):  # a resample may have no bag with the label
        return function(own, weights[..., outcomes.rows[name]])


def over_targets(function: Callable[..., Array], outcomes: EvaluatedSeveral, weights: Array | None = None) -> Array:
    """Return the mean of a metric over all targets with classes; NaN if it is undefined for one of them."""
    names = [name for name, each in outcomes.outcomes.items() if isinstance(each, EvaluatedBags)]
    return np.asarray(np.mean([of_target(name, function, outcomes, weights) for name in names], axis=0))
