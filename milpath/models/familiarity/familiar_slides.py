"""The model of familiar slides in a checkpoint: how far a bag is from the training bags, compared with validation bags."""

import math
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from milpath.models.familiarity.shrunk_gaussian import ShrunkGaussian, require_tensor
from milpath.records.plain_values import brief

Array = NDArray[np.float64]

# With fewer validation bags a bound would refer more than one in ten familiar bags; there is none.
LEAST_BAGS = 9
_MOST_SCORES = 10_000
# Scores that differ by less are equal: two commands differ in the last digits of a distance.
TIE = 1e-3
_DECIMALS = 4
_LEAST_SCALE, _CLOSEST = 0.01, 1e-9


@dataclass(frozen=True)
class FamiliarSlides:
    """What a checkpoint knows of the embeddings of its training bags, and of how far its validation bags are from them.

    A bag has two distances: of its embedding (the mean of its tiles weighted by attention) from those of the training bags,
    and the mean distance of its tiles from the training tiles. Each is compared, as a logarithm, with the median and the
    spread of the validation bags; the score of a bag is the larger of the two.

    Attributes:
        bags: Gaussian of the embeddings of training bags.
        tiles: Gaussian of the embeddings of training tiles.
        centre: `(2,)` float32, median over the validation bags of the logarithm of both distances.
        scale: `(2,)` float32, their median absolute deviation, scaled to a standard deviation; > 0.
        scores: `(validation bags,)` float32 in ascending order, at least one.
        tile_distances: `(101,)` float32, percentiles of the distances of validation tiles.
        refer: Share of bags like those of validation that may be above the bound; `None` refers none.
        num_bags: Number of training bags.
        tiles_per_bag: How many tiles of each training bag were taken.
        num_groups: Of how many groups, such as patients, the validation bags are; 0 if all bags are independent.
    """

    bags: ShrunkGaussian
    tiles: ShrunkGaussian
    centre: Tensor
    scale: Tensor
    scores: Tensor
    tile_distances: Tensor
    refer: float | None
    num_bags: int
    tiles_per_bag: int
    num_groups: int = 0

    @property
    def bound(self) -> float | None:
        """Score above which a bag is unfamiliar; `None` without one.

        It is the k-th largest score of n validation bags, `k = max(1, floor(share (n + 1)))`: the conformal p-value
        `(1 + #{validation >= score}) / (n + 1)` of a bag above it is at most the share, or below every validation bag's.
        """
        return bound_of(self.scores.numpy(), self.refer)

    def score(self, distances: Array) -> Array:
        """Return the score of bags, `(bags,)`, from their two distances `(bags, 2)`."""
        return combined(distances, self.centre.double().numpy(), self.scale.double().numpy())

    def tile_percent(self, distances: NDArray[np.floating]) -> Array:
        """Return for each tile the percent of validation tiles that are closer, in steps of 1."""
        return np.searchsorted(self.tile_distances.numpy(), distances.astype(np.float32), "left").clip(0, 100) * 1.0

    def state(self) -> dict[str, Any]:
        """Return tensors and plain values, as kept in a card."""
        return {
            "bags": self.bags.state(), "tiles": self.tiles.state(), "centre": self.centre, "scale": self.scale,
            "scores": self.scores, "tile_distances": self.tile_distances, "refer": self.refer,
            "num_bags": self.num_bags, "tiles_per_bag": self.tiles_per_bag, "num_groups": self.num_groups,
        }  # fmt: skip

    @classmethod
    def of_state(cls, state: Any, where: str = "familiarity of the card") -> "FamiliarSlides":
        """Return the model of a card, which may come from somebody else's file.

        Raises:
            ValueError: If something is missing, unknown or invalid.
        """
        names = (
            "bags", "tiles", "centre", "scale", "scores", "tile_distances", "refer", "num_bags", "tiles_per_bag",
            "num_groups",
        )  # fmt: skip
        if not isinstance(state, Mapping) or set(state) != set(names):
            raise ValueError(f"{where} must have {', '.join(names)}, not {brief(state)}")
        for name, shape in (("centre", (2,)), ("scale", (2,)), ("scores", None), ("tile_distances", (101,))):
            value = require_tensor(state[name], f"{name} of {where}", _MOST_SCORES)
            if (shape is not None and value.shape != shape) or value.ndim != 1 or not len(value):
                raise ValueError(f"{name} of {where} has the shape {tuple(value.shape)}")
        if not bool((state["scale"] > 0).all()):
            raise ValueError(f"scale of {where} must be above 0")
        for name in ("scores", "tile_distances"):
            if bool((state[name].diff() < 0).any()):
                raise ValueError(f"{name} of {where} must be in ascending order")
        refer = state["refer"]
        if refer is not None and not (type(refer) is float and 0 < refer < 1):
            raise ValueError(f"refer of {where} must be a share above 0 and below 1, or null, not {brief(refer)}")
        for name, least in (("num_bags", 1), ("tiles_per_bag", 1), ("num_groups", 0)):
            if type(state[name]) is not int or state[name] < least:
                raise ValueError(f"{name} of {where} must be a number of at least {least}, not {brief(state[name])}")
        bags, tiles = (ShrunkGaussian.of_state(state[name], f"{name} of {where}") for name in ("bags", "tiles"))
        if bags.mean.shape != tiles.mean.shape:
            raise ValueError(
                f"{where}: bags and tiles have embeddings of {len(bags.mean)} and {len(tiles.mean)} numbers"
            )
        return cls(bags, tiles, *(state[name] for name in names[2:]))


def calibrate(
    bags: ShrunkGaussian,
    tiles: ShrunkGaussian,
    distances: Array,
    tile_distances: NDArray[np.floating],
    *,
    refer: float | None,
    num_bags: int,
    tiles_per_bag: int,
    num_groups: int = 0,
) -> FamiliarSlides:
    """Return the model of familiar slides, compared with validation bags.

    Args:
        bags: Gaussian of the embeddings of training bags.
        tiles: Gaussian of the embeddings of training tiles.
        distances: `(validation bags, 2)`, as in `FamiliarSlides`.
        tile_distances: Distances of validation tiles.
        refer: As in `FamiliarSlides`.
        num_bags: Number of training bags.
        tiles_per_bag: How many tiles of each were taken.
        num_groups: As in `FamiliarSlides`.
    """
    logs = np.log(np.maximum(distances, _CLOSEST))
    centre = np.median(logs, axis=0)
    # 1.4826 times the median absolute deviation of a normal distribution is its standard deviation.
    scale = np.maximum(1.4826 * np.median(np.abs(logs - centre), axis=0), _LEAST_SCALE)
    centre, scale = centre.astype(np.float32), scale.astype(np.float32)
    scores = np.sort(combined(distances, centre.astype(np.float64), scale.astype(np.float64)))
    if len(scores) > _MOST_SCORES:
        scores = scores[np.linspace(0, len(scores) - 1, _MOST_SCORES).round().astype(int)]
    percentiles = np.percentile(tile_distances.astype(np.float64), np.arange(101))
    return FamiliarSlides(
        bags, tiles, torch.from_numpy(centre), torch.from_numpy(scale), torch.from_numpy(scores.astype(np.float32)),
        torch.from_numpy(percentiles.astype(np.float32)), refer, num_bags, tiles_per_bag, num_groups,
    )  # fmt: skip


def combined(distances: Array, centre: Array, scale: Array) -> Array:
    """Return the larger of two distances `(bags, 2)` in spreads above the median of validation, `(bags,)`."""
    logs = np.log(np.maximum(distances, _CLOSEST))
    found: Array = ((logs - centre) / scale).max(axis=1).round(_DECIMALS)
    return found


def bound_of(scores: NDArray[np.floating], refer: float | None) -> float | None:
    """Return the score above which a bag is unfamiliar; `None` without a share, or with fewer than 9 validation bags.

    Args:
        scores: Scores of the validation bags in ascending order.
        refer: Share of bags like those of validation that may be above it.
    """
    if refer is None or len(scores) < LEAST_BAGS:
        return None
    place = max(1, math.floor(refer * (len(scores) + 1) + 1e-9))
    return round(float(scores[-place]), _DECIMALS)


def familiar_of(state: Mapping[str, Any]) -> FamiliarSlides | None:
    """Return the model of familiar slides of a card; `None` for a checkpoint without one."""
    return FamiliarSlides.of_state(state) if state else None
