"""The encoder of Ilse et al. for 28 px digits."""

import torch.nn.functional as F
from torch import Tensor, nn

from milpath.models.encoders.normalisation import MNIST_MEAN, MNIST_STD, Normalisation


class LeNet5(nn.Module):
    """conv 1->20 (5 x 5), pool, ReLU, conv 20->50 (5 x 5), pool, ReLU, linear 800->500, ReLU.

    Args:
        embedding_dim: Width of the embedding.

    References:
        Ilse, Tomczak, Welling. Attention-based deep multiple instance learning. ICML 2018, table 7 and the authors' code.
    """

    takes = "tiles"

    def __init__(self, embedding_dim: int = 500) -> None:
        super().__init__()
        self.embedding_dim = embedding_dim
        self.normalise = Normalisation(MNIST_MEAN, MNIST_STD)
        self.conv1 = nn.Conv2d(1, 20, 5)
        self.conv2 = nn.Conv2d(20, 50, 5)
        self.linear = nn.Linear(50 * 4 * 4, embedding_dim)

    def forward(self, tiles: Tensor) -> Tensor:
        """Return embeddings `(tiles, embedding_dim)` of digits `(tiles, 1, 28, 28)` in [0, 1]."""
        if tiles.shape[1:] != (1, 28, 28):
            raise ValueError(f"lenet5 needs 1 x 28 x 28 digits, not {' x '.join(map(str, tiles.shape[1:]))}")
        maps = F.relu(F.max_pool2d(self.conv1(self.normalise(tiles)), 2))
        maps = F.relu(F.max_pool2d(self.conv2(maps), 2))
        return F.relu(self.linear(maps.flatten(1)))
