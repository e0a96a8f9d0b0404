"""Observed times and predicted survival of a set of bags, from which the metrics of survival are computed."""

from dataclasses import dataclass, replace
from typing import Self

import numpy as np
from numpy.typing import NDArray

from milpath.metrics.survival.survival_curves import Curve

Array = NDArray[np.float64]


@dataclass(frozen=True)
class EvaluatedTimes:
    """Time, event and predictions of each bag.

    Attributes:
        time: `(bags,)` time of the event or of censoring.
        event: `(bags,)` whether the event was observed.
        risk: `(bags,)`, higher means an earlier event.
        survival: `(bags, times)` predicted probability of no event up to each of `times`; `None` if it is not known yet.
        times: `(times,)` at which survival is predicted and evaluated, ascending.
        censoring: Probability not to be censored, estimated on the training split.
        groups: `(bags,)` group of each bag (patient, duplicates); `None` if all bags are independent.
    """

    time: Array
    event: NDArray[np.bool_]
    risk: Array
    survival: Array | None
    times: Array
    censoring: Curve
    groups: NDArray[np.str_] | None = None

    def part(self, rows: NDArray[np.int64]) -> Self:
        """Return a subset of bags, given by row."""
        return replace(
            self,
            time=self.time[rows],
            event=self.event[rows],
            risk=self.risk[rows],
            survival=None if self.survival is None else self.survival[rows],
            groups=None if self.groups is None else self.groups[rows],
        )

    @property
    def num_bags(self) -> int:
        """Number of bags."""
        return len(self.time)

    @property
    def num_events(self) -> int:
        """Number of bags with an observed event."""
        return int(self.event.sum())
