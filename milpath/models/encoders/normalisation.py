"""The preprocessing of tiles, kept in the network so that a checkpoint carries its own."""

from collections.abc import Sequence

import torch
from torch import Tensor, nn

IMAGENET_MEAN = (0.485, 0.456, 0.406)
IMAGENET_STD = (0.229, 0.224, 0.225)
# Of PANDA's 16 x 128 px tile set, as published with it; the "std" printed there is the root of this one.
PANDA_MEAN = (0.9095, 0.8189, 0.8780)
PANDA_STD = (0.1322, 0.2498, 0.1638)
# LeCun's digits, training images.
MNIST_MEAN = (0.1307,)
MNIST_STD = (0.3081,)


class Normalisation(nn.Module):
    """`(x - mean) / std` for each channel, of the inverted tile `1 - x` where asked for.

    Args:
        mean: Mean of each channel of the tiles as they come, in [0, 1]; of inverted tiles it is `1 - mean`.
        std: Standard deviation of each channel.
        invert: Turn white background into 0, as the published PANDA recipe does.
    """

    scale: Tensor
    shift: Tensor

    def __init__(self, mean: Sequence[float], std: Sequence[float], invert: bool = False) -> None:
        super().__init__()
        spread = torch.tensor(std, dtype=torch.float64)
        sign = -1.0 if invert else 1.0
        # ((1 - x) - (1 - mean)) / std = -(x - mean) / std: one multiplication and one addition for either.
        self.register_buffer("scale", (sign / spread).float().view(-1, 1, 1), persistent=False)
        shift = -sign * torch.tensor(mean, dtype=torch.float64) / spread
        self.register_buffer("shift", shift.float().view(-1, 1, 1), persistent=False)

    def forward(self, tiles: Tensor) -> Tensor:
        """Return normalised tiles `(tiles, channels, height, width)`."""
        return tiles * self.scale + self.shift
