"""The encoder for bags of features: linear layers."""

from collections.abc import Sequence
from itertools import pairwise

import torch
import torch.nn.functional as F
from torch import Tensor, nn


class LinearEncoder(nn.Module):
    """Linear, ReLU and dropout for each width; features are standardised with statistics stored in the network.

    The statistics are those of the training split, set once by `set_statistics`; without them features are not
    standardised.

    Args:
        num_features: Width of the input features.
        hidden_dims: Width of each layer; the last is the width of the embedding. Ilse et al. use 256, 128, 64 for the
            classic data sets.
        dropout: Probability of dropout after each layer, in [0, 1).
    """

    takes = "features"
    feature_mean: Tensor
    feature_std: Tensor

    def __init__(
        self, num_features: int | None = None, hidden_dims: Sequence[int] = (512,), dropout: float = 0.0
    ) -> None:
        super().__init__()
        if num_features is None:
            raise ValueError("the encoder linear needs the width of the features; set model.encoder.num_features")
        if not hidden_dims:
            raise ValueError("the encoder linear needs at least one width in hidden_dims")
        self.num_features = num_features
        self.hidden_dims = list(hidden_dims)
        self.dropout = dropout
        self.embedding_dim = self.hidden_dims[-1]
        self.drop = nn.Dropout(dropout)
        widths = [num_features, *self.hidden_dims]
        self.layers = nn.ModuleList(nn.Linear(a, b) for a, b in pairwise(widths))
        self.register_buffer("feature_mean", torch.zeros(num_features))
        self.register_buffer("feature_std", torch.ones(num_features))

    def set_statistics(self, mean: Tensor, std: Tensor) -> None:
        """Store the mean and standard deviation of each feature, `(num_features,)`; a constant feature becomes 0."""
        self.feature_mean.copy_(mean)
        self.feature_std.copy_(torch.where(std > 0, std, torch.ones_like(std)))

    def forward(self, features: Tensor) -> Tensor:
        """Return embeddings `(tiles, embedding_dim)` of features `(tiles, num_features)`."""
        if features.shape[-1] != self.num_features:
            raise ValueError(
                f"the network takes {self.num_features} features per tile, the bags have {features.shape[-1]}"
            )
        hidden = features if self._keeps(features) else (features - self.feature_mean) / self.feature_std
        for layer in self.layers:
            hidden = self.drop(F.relu(layer(hidden)))
        return hidden

    def _keeps(self, features: Tensor) -> bool:
        """Return whether the statistics leave features as they are; asked only where that costs no synchronisation."""
        mean, std = self.feature_mean, self.feature_std
        if mean.device.type != "cpu" or mean.dtype != features.dtype or torch.compiler.is_compiling():
            return False
        return not bool(mean.any()) and bool((std == 1).all())
