"""The methods of stain normalisation by name."""

from collections.abc import Mapping
from typing import Any, Protocol

from torch import Tensor

from milpath.models.stains.macenko import Macenko
from milpath.models.stains.reinhard import Reinhard


class StainMethod(Protocol):
    """What a method computes: statistics of a bag, and from these and a target how its tiles are changed."""

    num_values: int

    def statistics(self, pixels: Tensor, tissue: Tensor) -> tuple[Tensor, Tensor]:
        """Return the statistics of bags `(bags, ...)` and whether they can be relied on, bool `(bags,)`."""

    def transform(self, statistics: Tensor, target: Tensor) -> tuple[Tensor, Tensor]:
        """Return how bags are changed, `(bags, num_values)`, and whether they can be, bool `(bags,)`."""

    def apply(self, tiles: Tensor, values: Tensor) -> Tensor:
        """Return changed tiles; `values` has one row for each."""

    def target_of(self, statistics: Tensor) -> dict[str, list[float]]:
        """Return the median over bags in plain values."""

    def tensor_of(self, target: Mapping[str, Any]) -> Tensor:
        """Return a target of plain values as a tensor, after checking it."""


STAIN_METHODS: Mapping[str, StainMethod] = {"macenko": Macenko(), "reinhard": Reinhard()}
