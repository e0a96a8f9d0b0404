"""Transformer-based correlated multiple-instance learning."""

import math

import torch
from torch import Tensor, nn

from milpath.models.encoders import EncoderSpec
from milpath.models.network import MILNetwork
from milpath.models.output import MILOutput
from milpath.models.pooling import at_least_float32, full_mask


class NystromAttention(nn.Module):
    """Multi-head self-attention approximated through landmarks, `softmax(Q K~^T) pinv(softmax(Q~ K~^T)) softmax(Q~ K^T) V`.

    Landmarks are the means of consecutive segments. Sequences no longer than the number of landmarks use exact
    attention, to which the formula reduces. A depthwise convolution over the values is added to the result.

    Args:
        dim: Width of the tokens, a multiple of the number of heads.
        num_heads: Number of heads.
        num_landmarks: Number of landmarks.
        num_iterations: Steps of the iterative pseudo-inverse.
        kernel_size: Length of the convolution over the values, odd.
        dropout: Probability of dropout on the result, in [0, 1).

    Raises:
        ValueError: If the width is not a multiple of the number of heads.

    References:
        Xiong, Zeng, Chakraborty, Tan, Fung, Li, Singh. Nystromformer: a Nystrom-based algorithm for approximating
        self-attention. AAAI 2021, eq. 13 (attention), eq. 14 (pseudo-inverse).
    """

    def __init__(
        self,
        dim: int,
        num_heads: int = 8,
        num_landmarks: int = 256,
        num_iterations: int = 6,
        kernel_size: int = 33,
        dropout: float = 0.0,
    ) -> None:
        super().__init__()
        if dim % num_heads:
            raise ValueError(
                f"a width of {dim} cannot be divided among {num_heads} heads; use a multiple of {num_heads}"
            )
        self.num_heads = num_heads
        self.num_landmarks = num_landmarks
        self.num_iterations = num_iterations
        self.input_layer = nn.Linear(dim, 3 * dim, bias=False)
        self.output_layer = nn.Linear(dim, dim)
        self.drop = nn.Dropout(dropout)
        self.value_convolution = nn.Conv2d(
            num_heads, num_heads, (kernel_size, 1), padding=(kernel_size // 2, 0), groups=num_heads, bias=False
        )

    def forward(self, tokens: Tensor) -> tuple[Tensor, Tensor]:
        """Return new tokens `(batch, length, dim)` and the exact attention of the first token `(batch, length)`."""
        queries, keys, values = (
            part.unflatten(-1, (self.num_heads, -1)).transpose(1, 2)
            for part in self.input_layer(tokens).chunk(3, dim=-1)
        )
        queries = queries * queries.shape[-1] ** -0.5
        length = tokens.shape[1]
        if length <= self.num_landmarks:
            mixed = (queries @ keys.transpose(-1, -2)).softmax(-1) @ values
        else:
            landmark_queries, landmark_keys = (_segment_means(part, self.num_landmarks) for part in (queries, keys))
            to_landmarks = (queries @ landmark_keys.transpose(-1, -2)).softmax(-1)
            between = (landmark_queries @ landmark_keys.transpose(-1, -2)).softmax(-1)
            from_landmarks = (landmark_queries @ keys.transpose(-1, -2)).softmax(-1)
            inverse = pseudo_inverse(between, self.num_iterations)
            mixed = to_landmarks @ (inverse @ (from_landmarks @ values))
        mixed = mixed + self.value_convolution(values)
        first = at_least_float32(queries[:, :, :1] @ keys.transpose(-1, -2)).softmax(-1)[:, :, 0].mean(1)
        result: Tensor = self.drop(self.output_layer(mixed.transpose(1, 2).flatten(2)))
        return result, first


def _segment_means(values: Tensor, num_landmarks: int) -> Tensor:
    """Return the means of at most `num_landmarks` consecutive segments of equal length, the last one shorter."""
    length = values.shape[2]
    segment = -(-length // num_landmarks)
    count = -(-length // segment)
    padded = torch.nn.functional.pad(values, (0, 0, 0, count * segment - length))
    sizes = torch.full((count, 1), float(segment), dtype=values.dtype, device=values.device)
    sizes[-1] = length - (count - 1) * segment
    means: Tensor = padded.unflatten(2, (count, segment)).sum(3) / sizes
    return means


def pseudo_inverse(matrix: Tensor, num_iterations: int = 6) -> Tensor:
    """Return an approximate Moore-Penrose inverse of square matrices `(..., n, n)`, using only matrix products.

    References:
        Xiong et al. 2021, eq. 14 (after Razavi et al. 2014).
    """
    identity = torch.eye(matrix.shape[-1], dtype=matrix.dtype, device=matrix.device)
    magnitude = matrix.abs()
    scale = magnitude.sum(-1).amax((-1,), keepdim=True) * magnitude.sum(-2).amax((-1,), keepdim=True)
    inverse = matrix.transpose(-1, -2) / scale[..., None]
    for _ in range(num_iterations):
        product = matrix @ inverse
        inverse = 0.25 * inverse @ (13 * identity - product @ (15 * identity - product @ (7 * identity - product)))
    return inverse


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

    separates_bags = True

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
