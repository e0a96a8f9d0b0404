"""Stain normalisation as part of an encoder: each bag is brought to the colours of one target."""

from collections.abc import Mapping
from typing import Any

import torch
from torch import Tensor, nn

from milpath.models.stains.stain_methods import STAIN_METHODS, StainMethod
from milpath.models.stains.tissue_pixels import tissue_pixels


class StainNormalisation(nn.Module):
    """Bring the colours of bags to those of a target, each bag by its own tiles only.

    A bag without enough stained tissue, of a single colour, or (Macenko) whose stains are not those of the target is left
    as it is and counted.

    Args:
        method: "macenko" or "reinhard".
        target: Plain values, as `fit_stain_target` returns them: of Macenko `haematoxylin`, `eosin` (directions in optical
            density) and `amounts`; of Reinhard `mean` and `std` of CIELAB.

    Attributes:
        num_bags: Bags whose colours were looked at.
        num_unchanged: Those among them that were left as they are.

    Raises:
        ValueError: If the method is unknown, or the target has not these values.

    Example:
        >>> stains = StainNormalisation("reinhard", {"mean": [70, 20, -10], "std": [12, 9, 6]})
        >>> stains(torch.rand(2, 4, 3, 32, 32)).shape
        torch.Size([2, 4, 3, 32, 32])
    """

    target: Tensor

    def __init__(self, method: str, target: Mapping[str, Any]) -> None:
        super().__init__()
        self.method: StainMethod = stain_method(method)
        # Not in the state dict: the card holds these values.
        self.register_buffer("target", self.method.tensor_of(target), persistent=False)
        self.num_bags = 0
        self._unchanged: Tensor | int = 0

    def count_anew(self) -> None:
        """Forget the bags that were looked at."""
        self.num_bags, self._unchanged = 0, 0

    def stay_uncompiled(self) -> None:
        """Leave the statistics out of `torch.compile`: they count bags. As a decorator this would import the compiler."""
        vars(self)["values_of"] = torch.compiler.disable(self.values_of)

    @property
    def num_unchanged(self) -> int:
        """Bags that were left as they are; reading it waits for the device."""
        return int(self._unchanged)

    @torch.no_grad()
    def values_of(self, tiles: Tensor, mask: Tensor | None = None) -> Tensor:
        """Return how each bag is changed, `(bags, values)`; a bag's row depends on no other bag.

        Args:
            tiles: `(bags, tiles, 3, height, width)` in [0, 1].
            mask: `(bags, tiles)`, True for a real tile; `None` if all are real.
        """
        if tiles.ndim != 5 or tiles.shape[2] != 3:
            raise ValueError(f"stain normalisation takes colour tiles, not a tensor of shape {tuple(tiles.shape)}")
        with torch.autocast(tiles.device.type, enabled=False):
            statistics, sound = self.method.statistics(*tissue_pixels(tiles, mask))
            values, fits = self.method.transform(statistics, self.target)
        sound = sound & fits & torch.isfinite(values).all(1)
        self.num_bags += len(sound)
        self._unchanged = self._unchanged + (~sound).sum()
        return torch.cat([values.nan_to_num(0, 0, 0), sound[:, None].float()], dim=1)

    def recolour(self, tiles: Tensor, values: Tensor) -> Tensor:
        """Return normalised tiles in their own type.

        Args:
            tiles: `(tiles, 3, height, width)` in [0, 1].
            values: `(tiles, values)`: for each tile the row of its bag.
        """
        with torch.autocast(tiles.device.type, enabled=False):
            changed = self.method.apply(tiles.float(), values[:, :-1])
        chosen = torch.where(values[:, -1].bool()[:, None, None, None], changed, tiles.float())
        found: Tensor = chosen.to(tiles.dtype)
        return found

    def forward(self, tiles: Tensor, mask: Tensor | None = None) -> Tensor:
        """Return normalised bags `(bags, tiles, 3, height, width)`."""
        values = self.values_of(tiles, mask).repeat_interleave(tiles.shape[1], dim=0)
        bags: Tensor = self.recolour(tiles.flatten(0, 1), values).unflatten(0, tiles.shape[:2])
        return bags


def stain_method(name: Any) -> StainMethod:
    """Return a method by its name; refuse an unknown one."""
    if not isinstance(name, str) or name not in STAIN_METHODS:
        raise ValueError(f"stain_normalisation={name!r} is unknown; it must be none, {' or '.join(STAIN_METHODS)}")
    return STAIN_METHODS[name]


def stains_in(network: nn.Module) -> StainNormalisation | None:
    """Return the stain normalisation in a network, of an average that of the first; `None` without one."""
    return next((module for module in network.modules() if isinstance(module, StainNormalisation)), None)


def unchanged_note(network: nn.Module) -> str | None:
    """Return a line if a network left the colours of some bags as they were; `None` otherwise."""
    stains = stains_in(network)
    if stains is None or not (count := stains.num_unchanged):
        return None
    return (
        f"the stains of {count:,} of {stains.num_bags:,} bags were not normalised: too little stained tissue, or other "
        "stains than the target"
    )
