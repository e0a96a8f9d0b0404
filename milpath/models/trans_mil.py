"""Transformer-based correlated multiple-instance learning."""

import math

import torch
from torch import Tensor, nn

from milpath.models.encoders import EncoderSpec
from milpath.models.network import MILNetwork
from milpath.models.nystrom_attention import NystromAttention
from milpath.models.output import MILOutput
from milpath.models.pooling import at_least_float32, full_mask


class TransMIL(MILNetwork):
    """Let the tiles of a bag attend to each other and classify by a class token.

    The tiles are padded to a square (by repeating the first ones) and a class token is prepended; then follow Nystrom
    attention, a pyramid of depthwise convolutions over the square as position encoding, and Nystrom attention again.
    The position encoding depends on the order of tiles: by design of its authors, this is the only network of the
    library whose output does. Attention is that of the class token in the last layer, averaged over heads, without its
    weight on itself; the weights of repeated tiles are added up.

    Bags are aggregated one by one, since each has its own square.

    Args:
        encoder: Name of an encoder, or a mapping of its name and arguments.
        num_outputs: Number of logits.
        hidden_dim: Width of the tokens, a multiple of 8.
        num_landmarks: Landmarks of the attention; the authors use half the width.
        dropout: Probability of dropout after each attention, in [0, 1); the authors use 0.1.

    References:
        Shao, Bian, Chen, Wang, Zhang, Ji, Zhang. TransMIL: transformer based correlated multiple instance learning for
        whole slide image classification. NeurIPS 2021, algorithm 2 (TPT) and 3 (PPEG).
    """

    def __init__(
        self,
        encoder: EncoderSpec = "tile_cnn",
        num_outputs: int = 1,
        hidden_dim: int = 512,
        num_landmarks: int = 256,
        dropout: float = 0.1,
    ) -> None:
        super().__init__(encoder, num_outputs)
        self.hidden_dim = hidden_dim
        self.num_landmarks = num_landmarks
        self.dropout = dropout
        self.hidden_layer = nn.Sequential(nn.Linear(self.tile_encoder.embedding_dim, hidden_dim), nn.ReLU())
        self.class_token = nn.Parameter(torch.randn(1, 1, hidden_dim))
        self.norm1, self.norm2, self.norm3 = (nn.LayerNorm(hidden_dim) for _ in range(3))
        self.attention1 = NystromAttention(hidden_dim, num_landmarks=num_landmarks, dropout=dropout)
        self.attention2 = NystromAttention(hidden_dim, num_landmarks=num_landmarks, dropout=dropout)
        self.convolutions = nn.ModuleList(
            nn.Conv2d(hidden_dim, hidden_dim, size, padding=size // 2, groups=hidden_dim) for size in (7, 5, 3)
        )
        self.classification_layer = nn.Linear(hidden_dim, num_outputs)

    def aggregate(self, embeddings: Tensor, mask: Tensor | None = None) -> MILOutput:
        mask = full_mask(embeddings, mask)
        if len(mask) == 0:
            # Without bags, every parameter still needs a zero gradient, for which other processes wait.
            logits, _ = self._aggregate_bag(embeddings.new_zeros(1, 1, embeddings.shape[2]))
            return MILOutput(logits[:0] + embeddings.sum(), at_least_float32(embeddings).new_zeros(mask.shape))
        attention = at_least_float32(embeddings).new_zeros(mask.shape)
        bags = []
        for index, real in enumerate(mask):
            bag_logits, weights = self._aggregate_bag(embeddings[index, real][None])
            bags.append(bag_logits)
            attention[index, real] = weights
        return MILOutput(torch.cat(bags), attention)

    def _aggregate_bag(self, embeddings: Tensor) -> tuple[Tensor, Tensor]:
        """Return logits `(1, num_outputs)` and attention `(tiles,)` of one bag `(1, tiles, dim)`."""
        hidden = self.hidden_layer(embeddings)
        length = hidden.shape[1]
        side = math.isqrt(length - 1) + 1
        square = torch.cat([hidden, hidden[:, : side * side - length]], 1)
        tokens = torch.cat([self.class_token.expand(1, -1, -1), square], 1)
        tokens = tokens + self.attention1(self.norm1(tokens))[0]
        tokens = torch.cat([tokens[:, :1], self._encode_position(tokens[:, 1:], side)], 1)
        mixed, weights = self.attention2(self.norm2(tokens))
        token = self.norm3(tokens + mixed)[:, 0]
        on_tiles = weights[0, 1:]
        attention = on_tiles[:length].clone()
        repeated = len(on_tiles) - length
        attention[:repeated] = attention[:repeated] + on_tiles[length:]
        return self.classification_layer(token), attention / attention.sum()

    def _encode_position(self, tokens: Tensor, side: int) -> Tensor:
        """Add three depthwise convolutions over the square of tiles."""
        maps: Tensor = tokens.transpose(1, 2).unflatten(2, (side, side))
        maps = maps + sum(convolution(maps) for convolution in self.convolutions)
        return maps.flatten(2).transpose(1, 2)
