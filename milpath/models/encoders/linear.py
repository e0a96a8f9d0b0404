"""The encoder for bags of features: linear layers."""

from collections.abc import Sequence
from itertools import pairwise

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from milpath.models.member_linear import MemberLinear

# Up to so many tiles, standardising costs no more than looking through the statistics.
_FEW = 64


class LinearEncoder(nn.Module):
    """Linear, ReLU and dropout for each width; features are standardised with statistics stored in the network.

    The statistics are those of the training split, set once by `set_statistics`; without them features are not
    standardised.

    Args:
        num_features: Width of the input features.
        hidden_dims: Width of each layer; the last is the width of the embedding. Ilse et al. use 256, 128, 64 for the
            classic data sets. Empty: the embedding is the (standardised) features.
        dropout: Probability of dropout after each layer, in [0, 1).
        clip: Standardised features are limited to -clip..clip, in standard deviations, so that a rare large value of a
            feature that hardly varied in training does not decide alone; `None` for no limit.
        num_members: Members of an ensemble, each with layers of its own; the embedding is those of all members, one after
            another.

    Raises:
        ValueError: If `num_features` is missing or `clip` is not greater than 0.
    """

    takes = "features"
    feature_mean: Tensor
    feature_std: Tensor

    def __init__(
        self,
        num_features: int | None = None,
        hidden_dims: Sequence[int] = (512,),
        dropout: float = 0.0,
        clip: float | None = None,
        num_members: int = 1,
    ) -> None:
        super().__init__()
        if num_features is None:
            raise ValueError("the encoder linear needs the width of the features; set model.encoder.num_features")
        if clip is not None and not clip > 0:
            raise ValueError(f"clip={clip} of the encoder linear must be greater than 0 standard deviations, or null")
        self.num_features = num_features
        self.hidden_dims = list(hidden_dims)
        self.dropout = dropout
        self.clip = clip
        self.num_members = num_members
        widths = [num_features, *self.hidden_dims]
        self.embedding_dim = num_members * widths[-1]
        self.drop = nn.Dropout(dropout)
        self.layers = nn.ModuleList(
            nn.Linear(a, b) if num_members == 1 else MemberLinear(num_members, a, b) for a, b in pairwise(widths)
        )
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
        if self.clip is not None:
            hidden = hidden.clamp(-self.clip, self.clip)
        if self.num_members > 1:
            hidden = hidden.expand(self.num_members, -1, -1)
        for layer in self.layers:
            hidden = self.drop(F.relu(layer(hidden)))
        return hidden if self.num_members == 1 else hidden.transpose(0, 1).flatten(1)

    def _keeps(self, features: Tensor) -> bool:
        """Return whether the statistics are known to leave features as they are; looked at only where that saves time."""
        mean, std = self.feature_mean, self.feature_std
        if mean.device.type != "cpu" or mean.dtype != features.dtype or torch.compiler.is_compiling():
            return False  # on a GPU the answer costs a synchronisation
        if len(features) <= _FEW:
            return False
        return not bool(mean.any()) and bool((std == 1).all())
