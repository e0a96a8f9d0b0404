"""Nystrom approximation of self-attention in linear time and memory."""

import torch
from torch import Tensor, nn

from milpath.models.pooling import at_least_float32


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
