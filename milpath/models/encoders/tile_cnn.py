"""The small convolutional encoder of Ilse et al., for tiles of at least 11 px."""

from collections.abc import Callable, Sequence
from functools import partial

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from milpath.models.encoders.normalisation import PANDA_MEAN, PANDA_STD, Normalisation

# Pixels of tiles whose feature maps stay in a processor's cache from layer to layer: two tiles of 128 px.
_CACHED_PIXELS = 2 * 128**2


class TileCNN(nn.Module):
    """Two convolutions and two linear layers.

    conv 3->36 (4 x 4), pool, ReLU, conv 36->48 (3 x 3), pool, ReLU, then linear 48 s^2 -> dim -> dim, each with ReLU
    and dropout; s is 30 for tiles of 128 px. Pooling comes before ReLU: ReLU is monotonic, so the result is the same at
    a quarter of the cost.

    Args:
        tile_size: Side of a tile in pixels.
        embedding_dim: Width of the embedding.
        dropout: Probability of dropout after each linear layer, in [0, 1).
        invert: Invert tiles to `1 - x` first, as the published recipe does.
        mean: Mean of each channel of the tiles before inversion; the default is PANDA's.
        std: Standard deviation of each channel; the default is PANDA's. The value published with the tile set is its
            square root.

    Raises:
        ValueError: If the tiles are too small for the layers or the statistics do not have 3 channels.

    References:
        Ilse, Tomczak, Welling. Attention-based deep multiple instance learning. ICML 2018, table 9 (the layers for
        histopathology, for 27 px patches).
    """

    takes = "tiles"

    def __init__(
        self,
        tile_size: int = 128,
        embedding_dim: int = 512,
        dropout: float = 0.5,
        invert: bool = True,
        mean: Sequence[float] = PANDA_MEAN,
        std: Sequence[float] = PANDA_STD,
    ) -> None:
        super().__init__()
        side = ((tile_size - 3) // 2 - 2) // 2
        if side < 1:
            raise ValueError(f"tile_cnn needs tiles of at least 11 px, not tile_size={tile_size}")
        self.tile_size = tile_size
        self.embedding_dim = embedding_dim
        self.dropout = dropout
        self.invert = invert
        self.mean, self.std = list(mean), list(std)
        if len(self.mean) != 3:
            raise ValueError(f"tile_cnn takes tiles with 3 channels, but mean has {len(self.mean)}")
        self.normalise = Normalisation(self.mean, self.std, invert)
        self.conv1 = nn.Conv2d(3, 36, 4)
        self.conv2 = nn.Conv2d(36, 48, 3)
        self.linear1 = nn.Linear(48 * side * side, embedding_dim)
        self.linear2 = nn.Linear(embedding_dim, embedding_dim)
        self.drop = nn.Dropout(dropout)

    def forward(self, tiles: Tensor) -> Tensor:
        """Return embeddings `(tiles, embedding_dim)` of tiles `(tiles, 3, tile_size, tile_size)` in [0, 1]."""
        if tiles.shape[1:] != (3, self.tile_size, self.tile_size):
            raise ValueError(
                f"tile_cnn was built for 3 x {self.tile_size} x {self.tile_size} tiles, not "
                f"{' x '.join(map(str, tiles.shape[1:]))}; train one with model.encoder.tile_size, or give it tiles of "
                f"{self.tile_size} px (data.tile_size)"
            )
        if torch.is_grad_enabled() or tiles.device.type != "cpu":
            maps = self._maps(tiles, partial(F.max_pool2d, kernel_size=2))
        else:
            at_a_time = max(1, _CACHED_PIXELS // self.tile_size**2)
            maps = torch.cat([self._maps(part, _largest_of_four) for part in tiles.split(at_a_time)])
        hidden = self.drop(F.relu(self.linear1(maps)))
        embeddings: Tensor = self.drop(F.relu(self.linear2(hidden)))
        return embeddings

    def _maps(self, tiles: Tensor, pool: Callable[[Tensor], Tensor]) -> Tensor:
        """Return the flattened output of the convolutions, `(tiles, 48 s^2)`."""
        maps = F.relu(pool(self.conv1(self.normalise(tiles))))
        return F.relu(pool(self.conv2(maps))).flatten(1)


def _largest_of_four(maps: Tensor) -> Tensor:
    """Return the maximum of each 2 x 2 pixels, `(tiles, maps, height // 2, width // 2)`.

    Bit-identical to PyTorch's max pooling, which also computes the indices for a gradient that is not needed here.
    """
    height, width = (side // 2 * 2 for side in maps.shape[2:])
    rows = torch.maximum(maps[:, :, 0:height:2], maps[:, :, 1:height:2])
    return torch.maximum(rows[..., 0:width:2], rows[..., 1:width:2])
