"""Means over the bags of an epoch, of all processes, which go on where a checkpoint was written within the epoch."""

from collections.abc import Callable, Mapping
from typing import Any

import torch
from torch import Tensor

Reduce = Callable[[Tensor], Tensor]


class EpochMeans:
    """Running sums by name, one pair of sum and count per step."""

    def __init__(self) -> None:
        self._steps: dict[str, list[Tensor]] = {}

    def add(self, name: str, total: Tensor, count: int) -> None:
        """Add the sum over the bags of a step."""
        pair = torch.stack([total.float(), torch.tensor(float(count), device=total.device)])
        self._steps.setdefault(name, []).append(pair)

    def take(self, prefix: str, reduce: Reduce) -> dict[str, Tensor]:
        """Return the means whose names begin with a prefix, which begin anew.

        Args:
            prefix: Beginning of the names.
            reduce: Sums a tensor over all processes; SUM and division, since not every backend supports averaging.
        """
        means = {}
        for name in [name for name in self._steps if name.startswith(prefix)]:
            total, count = reduce(torch.stack(self._steps.pop(name)).sum(0))
            means[name] = (total / count).float()
        return means

    def state(self, reduce: Reduce) -> dict[str, Tensor]:
        """Return the sums of the steps done so far over all processes, `(steps, 2)` float32 for each name."""
        return {name: reduce(torch.stack(pairs)).cpu() for name, pairs in self._steps.items()}

    def load(self, state: Mapping[str, Any], device: torch.device, *, first: bool) -> None:
        """Go on from `state`; the sums of all processes are in the first one, the others add to zero."""
        self._steps = {
            name: list((pairs if first else torch.zeros_like(pairs)).to(device)) for name, pairs in state.items()
        }
