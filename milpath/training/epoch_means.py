"""Means over the bags of an epoch, of all processes, which go on where a checkpoint was written within the epoch."""

from collections.abc import Callable, Mapping, Sequence
from typing import Any

import torch
from torch import Tensor

Reduce = Callable[[Tensor], Tensor]


class EpochMeans:
    """Running sums by name, one pair of sum and count per step."""

    def __init__(self) -> None:
        self._sums: dict[str, list[tuple[Tensor, float]]] = {}

    def add(self, name: str, total: Tensor, count: int) -> None:
        """Add the sum over the bags of a step."""
        self._sums.setdefault(name, []).append((total.float(), float(count)))

    def take(self, prefix: str, reduce: Reduce) -> dict[str, Tensor]:
        """Return the means whose names begin with a prefix, which begin anew.

        Args:
            prefix: Beginning of the names.
            reduce: Sums a tensor over all processes; SUM and division, since not every backend supports averaging.
        """
        means = {}
        for name in [name for name in self._sums if name.startswith(prefix)]:
            # Step by step, as in a checkpoint: the sum of a resumed epoch is then the same to the last bit.
            total, count = reduce(_pairs(self._sums.pop(name))).sum(0)
            means[name] = (total / count).float()
        return means

    def state(self, reduce: Reduce) -> dict[str, Tensor]:
        """Return the sums of the steps done so far over all processes, `(steps, 2)` float32 for each name."""
        return {name: reduce(_pairs(sums)).cpu() for name, sums in self._sums.items()}

    def load(self, state: Mapping[str, Any], device: torch.device, *, first: bool) -> None:
        """Go on from `state`; the sums of all processes are in the first one, the others add to zero."""
        kept = {name: pairs if first else torch.zeros_like(pairs) for name, pairs in state.items()}
        self._sums = {
            name: list(zip(pairs[:, 0].to(device), pairs[:, 1].tolist(), strict=True)) for name, pairs in kept.items()
        }


def _pairs(sums: Sequence[tuple[Tensor, float]]) -> Tensor:
    """Return sums and counts as `(steps, 2)` float32 on the device of the sums."""
    totals = torch.stack([total for total, _ in sums])
    return torch.stack([totals, torch.tensor([count for _, count in sums], device=totals.device)], dim=1)
