"""The last step before a network, on its device: bytes to numbers, augmentation, standardisation."""

import torch
from torch import Tensor

from milpath.data.loading.augmentation import TileAugmentation
from milpath.data.loading.standardization import FeatureStatistics
from milpath.models.network_input import to_network_input


class Preparation:
    """Turn tiles as they are stored into tiles as networks take them.

    Args:
        augmentation: What to do to image tiles; None for nothing.
        statistics: How to standardise features; None leaves them as they are.
    """

    def __init__(
        self, augmentation: TileAugmentation | None = None, statistics: FeatureStatistics | None = None
    ) -> None:
        self.augmentation = augmentation
        self.statistics = statistics

    def __call__(self, tiles: Tensor, mask: Tensor, seed: int, padded: bool) -> Tensor:
        """Prepare a batch.

        Args:
            tiles: `(bags, tiles, height, width, channels)` uint8 or `(bags, tiles, features)` float.
            mask: `(bags, tiles)` bool.
            seed: Seed of the augmentation of this batch.
            padded: Whether the mask has a False; known on the host, where asking costs nothing.

        Returns:
            `(bags, tiles, channels, height, width)` float32 in [0, 1], lying channels last in memory, or
            `(bags, tiles, features)` float32; 0 on padding.
        """
        if tiles.ndim == 3:
            features = tiles.float()
            if self.statistics is not None:
                features = self.statistics.apply(features)
                if padded:
                    features = features * mask[..., None]
            return features
        if self.augmentation is None or self.augmentation.kind == "none":
            return to_network_input(tiles)
        tiles = tiles.permute(0, 1, 4, 2, 3)
        generator = torch.Generator(tiles.device).manual_seed(seed)
        tiles = self.augmentation.turn(tiles, generator).float().div_(255)
        tiles = self.augmentation.recolour(tiles, generator)
        return tiles * mask[..., None, None, None] if padded else tiles
