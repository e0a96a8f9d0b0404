"""Normalisation of tiles as part of the network, so that a checkpoint contains its own."""

from collections.abc import Sequence

import torch
from torch import Tensor, nn

IMAGENET_MEAN = (0.485, 0.456, 0.406)
IMAGENET_STD = (0.229, 0.224, 0.225)
# Of PANDA's 16 x 128 px tile set, as published with it; the "std" printed there is the square root of this one.
PANDA_MEAN = (0.9095, 0.8189, 0.8780)
PANDA_STD = (0.1322, 0.2498, 0.1638)
# MNIST training images.
MNIST_MEAN = (0.1307,)
MNIST_STD = (0.3081,)


class Normalisation(nn.Module):
    """`(x - mean) / std` for each channel; with `invert`, the same for the inverted tile `1 - x`.

    The statistics are always those of the tiles before inversion. An inverted tile has the mean `1 - mean` and the same
    standard deviation, so inversion only changes the sign: `((1 - x) - (1 - mean)) / std = -(x - mean) / std`.

    Args:
        mean: Mean of each channel of the tiles before inversion, in [0, 1].
        std: Standard deviation of each channel, > 0.
        invert: Invert the tiles, so that white background becomes small, as the published PANDA recipe does.

    Raises:
        ValueError: If mean and std differ in length or a standard deviation is not greater than 0.
    """

    scale: Tensor
    shift: Tensor

    def __init__(self, mean: Sequence[float], std: Sequence[float], invert: bool = False) -> None:
        super().__init__()
        if len(mean) != len(std):
            raise ValueError(f"mean has {len(mean)} channels, std has {len(std)}")
        if min(std) <= 0:
            raise ValueError(f"std of every channel must be greater than 0, not {list(std)}")
        sign = -1.0 if invert else 1.0
        # One multiplication and one addition per pixel. In the state dict, so that a checkpoint keeps its values even
        # if the constants above or those of a library change.
        self.register_buffer("scale", torch.tensor([sign / s for s in std]).view(-1, 1, 1))
        self.register_buffer(
            "shift", torch.tensor([-sign * m / s for m, s in zip(mean, std, strict=True)]).view(-1, 1, 1)
        )

    def forward(self, tiles: Tensor) -> Tensor:
        """Return normalised tiles `(tiles, channels, height, width)`."""
        if tiles.shape[1] != len(self.scale):
            raise ValueError(f"the encoder takes tiles with {len(self.scale)} channels, not {tiles.shape[1]}")
        return tiles * self.scale + self.shift
