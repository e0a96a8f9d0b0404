"""Preparation of batches on the device: conversion to float, augmentation, and standardisation fitted on training bags."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from torch import Tensor

from milpath.data.loading.augmentation import TileAugmentation
from milpath.data.sources.features.feature_check import require_finite_bags
from milpath.data.store.bag_store import BagStore
from milpath.models.network_input import to_network_input


@dataclass(frozen=True)
class FeatureStatistics:
    """Mean and standard deviation of each feature over the tiles of the training bags.

    Attributes:
        mean: `(features,)` float64.
        std: `(features,)` float64; 1 for a feature that is constant on the training bags, so that it becomes 0.
    """

    mean: np.ndarray
    std: np.ndarray

    def __post_init__(self) -> None:
        for name in ("mean", "std"):
            if not (finite := np.isfinite(getattr(self, name))).all():
                raise ValueError(f"the {name} of feature {int(finite.argmin())} is not finite: features are too large")

    def apply(self, features: Tensor) -> Tensor:
        """Return `(features - mean) / std` on the device of the features."""
        mean, std = (torch.as_tensor(value, dtype=features.dtype, device=features.device) for value in self.as_pair())
        return (features - mean) / std

    def as_pair(self) -> tuple[np.ndarray, np.ndarray]:
        """Return the mean and the standard deviation."""
        return self.mean, self.std

    def to_dict(self) -> dict[str, list[float]]:
        """Return plain values."""
        return {"mean": self.mean.tolist(), "std": self.std.tolist()}

    @classmethod
    def from_dict(cls, values: dict[str, Any]) -> "FeatureStatistics":
        """Return the statistics from the values of `to_dict`."""
        return cls(np.asarray(values["mean"], np.float64), np.asarray(values["std"], np.float64))


def fit_statistics(store: BagStore, indices: Sequence[int] | np.ndarray) -> FeatureStatistics:
    """Fit statistics on some bags, with the memory of a single slide.

    Args:
        store: A store of features.
        indices: Bags of the training split.

    Raises:
        ValueError: If the store contains images (networks normalise those themselves), or a feature is not finite.
    """
    if len(store.tile_shape) != 1:
        raise ValueError(
            "data.standardize is for feature bags; encoders of tiles carry their own normalisation: these are tiles, so set "
            "data.standardize=false, or encode them first (milpath extract slides=STORE encoder=NAME output=FEATURES)"
        )
    count, mean, square = 0, np.zeros(store.tile_shape), np.zeros(store.tile_shape)
    slides = store.slide_store
    names = slides.bags["bag_id"].tolist()
    for position in (part.position for index in indices for part in store.slides_of(int(index))):
        # Slide by slide (Chan, Golub and LeVeque 1983): no sum of squares that suffers from cancellation.
        rows = slides.read(position).astype(np.float64)
        require_finite_bags(rows[None], [len(rows)], [names[position]], store.path)
        total = count + len(rows)
        delta = rows.mean(0) - mean
        square += ((rows - rows.mean(0)) ** 2).sum(0) + delta**2 * count * len(rows) / total
        mean += delta * len(rows) / total
        count = total
    std = np.sqrt(square / max(count, 1))
    # Rounding leaves a constant column with a standard deviation of about 1e-16 times its magnitude.
    constant = std <= 1e-12 * np.maximum(np.abs(mean), 1)
    return FeatureStatistics(mean, np.where(constant, 1.0, std))


class Preparation:
    """Convert stored tiles to the input of a network.

    Args:
        augmentation: Augmentation of image tiles; `None` for none.
        statistics: Statistics for the standardisation of features; `None` for none.
    """

    def __init__(
        self, augmentation: TileAugmentation | None = None, statistics: FeatureStatistics | None = None
    ) -> None:
        self.augmentation = augmentation
        self.statistics = statistics

    @property
    def is_random(self) -> bool:
        """Whether a batch depends on its seed."""
        return self.augmentation is not None and self.augmentation.kind != "none"

    def __call__(self, tiles: Tensor, mask: Tensor, seed: int, padded: bool) -> Tensor:
        """Prepare a batch.

        Args:
            tiles: `(bags, tiles, height, width, channels)` uint8 or `(bags, tiles, features)` float.
            mask: `(bags, tiles)` bool.
            seed: Seed of the augmentation of this batch.
            padded: Whether the mask has a False; known on the host, so that no synchronisation is needed.

        Returns:
            `(bags, tiles, channels, height, width)` float32 in [0, 1], channels last in memory, or
            `(bags, tiles, features)` float32; 0 on padding.
        """
        if tiles.ndim == 3:
            features = tiles.float()
            if self.statistics is not None:
                features = self.statistics.apply(features)
                if padded:
                    features = features * mask[..., None]
            return features
        if not self.is_random or self.augmentation is None:
            return to_network_input(tiles)
        tiles = tiles.permute(0, 1, 4, 2, 3)
        generator = torch.Generator(tiles.device).manual_seed(seed)
        tiles = self.augmentation.turn(tiles, generator).float().div_(255)
        tiles = self.augmentation.recolour(self.augmentation.move(tiles, generator), generator)
        return tiles * mask[..., None, None, None] if padded else tiles
