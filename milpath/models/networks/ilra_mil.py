"""Iterative low-rank attention multiple-instance learning."""

import torch
from torch import Tensor, nn

from milpath.models.encoders import EncoderSpec
from milpath.models.network import MILNetwork
from milpath.models.output import MILOutput
from milpath.models.pooling import at_least_float32, full_mask


class LatentAttention(nn.Module):
    """Attention of queries to keys, with a residual layer and optionally a gate.

    With `q = W_q Q`, `k = W_k X` and `v = W_v X`: `A = W_o [softmax((R_q q)_h (R_k k)_h^T / sqrt(d)) (R_v v)_h]` over heads
    h, `O = q + A`, `O' = O + ReLU(W O)`, and with a gate `O' * SiLU(W_g Q)`.

    Args:
        query_dim: Width of the queries.
        key_dim: Width of the keys.
        hidden_dim: Width of the output.
        num_heads: Number of heads; divides `hidden_dim`.
        gated: Whether to gate the output by the queries.

    References:
        Xiang, Zhang. Exploring low-rank property in multiple instance learning for whole slide image classification. ICLR
        2023, eq. 16 and the authors' code.
    """

    def __init__(self, query_dim: int, key_dim: int, hidden_dim: int, num_heads: int, gated: bool) -> None:
        super().__init__()
        self.num_heads = num_heads
        self.query_layer = nn.Linear(query_dim, hidden_dim)
        self.key_layer = nn.Linear(key_dim, hidden_dim)
        self.value_layer = nn.Linear(key_dim, hidden_dim)
        self.head_layers = nn.ModuleList(nn.Linear(hidden_dim, hidden_dim) for _ in range(3))
        self.mixing_layer = nn.Linear(hidden_dim, hidden_dim)
        self.residual_layer = nn.Linear(hidden_dim, hidden_dim)
        self.gate_layer = nn.Linear(query_dim, hidden_dim) if gated else None

    def forward(self, queries: Tensor, keys: Tensor, mask: Tensor | None = None) -> tuple[Tensor, Tensor]:
        """Return the output and the weights.

        Args:
            queries: `(bags, queries, query_dim)`.
            keys: `(bags, keys, key_dim)`.
            mask: bool `(bags, keys)`, True for real keys; `None` if all are.

        Returns:
            `(bags, queries, hidden_dim)`, and the weights `(bags, queries, keys)` averaged over heads, which sum to 1.
        """
        projected = self.query_layer(queries)
        inputs = (projected, self.key_layer(keys), self.value_layer(keys))
        query, key, value = (
            layer(part).unflatten(2, (self.num_heads, -1)).transpose(1, 2)
            for layer, part in zip(self.head_layers, inputs, strict=True)
        )
        scores = at_least_float32(query @ key.transpose(2, 3)) * query.shape[-1] ** -0.5
        if mask is not None:
            scores = scores.masked_fill(~mask[:, None, None], -torch.inf)
        weights = scores.softmax(-1)
        mixed = (weights.to(value.dtype) @ value).transpose(1, 2).flatten(2)
        result = projected + self.mixing_layer(mixed)
        result = result + torch.relu(self.residual_layer(result))
        if self.gate_layer is not None:
            result = result * nn.functional.silu(self.gate_layer(queries))
        return result, weights.mean(1)


class ILRAMIL(MILNetwork):
    """Let the tiles of a bag exchange information through a few learned latent vectors, then pool by one query.

    Each of L layers is a gated attention block: latents attend to all tiles, `H = Att(Z, X)`, and all tiles to the result,
    `X' = Att(X, H)`, which costs O(tiles * rank) instead of O(tiles^2). A learned query then attends to the tiles
    (non-local pooling), and the logits are linear in what it finds. Attention is that of this query, averaged over heads.

    The contrastive pretraining of the encoder of the same paper (LRC) is not part of this network.

    Args:
        encoder: Name of an encoder, or a mapping of its name and arguments.
        num_outputs: Number of logits.
        hidden_dim: Width of the tokens, a multiple of the number of heads.
        num_layers: Number L of gated attention blocks.
        num_heads: Number of heads.
        rank: Number of latent vectors of each block.

    Raises:
        ValueError: If an option is below 1 or the heads do not divide the width.

    References:
        Xiang, Zhang. Exploring low-rank property in multiple instance learning for whole slide image classification. ICLR
        2023, section 3.2 (iterative low-rank attention).
    """

    separates_bags = True

    def __init__(
        self,
        encoder: EncoderSpec = "tile_cnn",
        num_outputs: int = 1,
        hidden_dim: int = 256,
        num_layers: int = 2,
        num_heads: int = 8,
        rank: int = 1,
    ) -> None:
        super().__init__(encoder, num_outputs)
        if min(hidden_dim, num_layers, num_heads, rank) < 1 or hidden_dim % num_heads:
            raise ValueError(
                f"hidden_dim={hidden_dim} must be a multiple of num_heads={num_heads}, and num_layers={num_layers} and "
                f"rank={rank} at least 1"
            )
        self.hidden_dim = hidden_dim
        self.num_layers = num_layers
        self.num_heads = num_heads
        self.rank = rank
        widths = [self.tile_encoder.embedding_dim, *[hidden_dim] * (num_layers - 1)]
        self.latents = nn.ParameterList(_latents(rank, hidden_dim) for _ in widths)
        self.gathering = nn.ModuleList(
            LatentAttention(hidden_dim, width, hidden_dim, num_heads, True) for width in widths
        )
        self.spreading = nn.ModuleList(
            LatentAttention(width, hidden_dim, hidden_dim, num_heads, True) for width in widths
        )
        self.pooling_query = _latents(1, hidden_dim)
        self.pooling = LatentAttention(hidden_dim, hidden_dim, hidden_dim, num_heads, False)
        self.classification_layer = nn.Linear(hidden_dim, num_outputs)

    def aggregate(self, embeddings: Tensor, mask: Tensor | None = None) -> MILOutput:
        mask = full_mask(embeddings, mask)
        tokens, bags = embeddings * mask[..., None], len(embeddings)
        for latents, gather, spread in zip(self.latents, self.gathering, self.spreading, strict=True):
            gathered, _ = gather(latents.expand(bags, -1, -1), tokens, mask)
            tokens, _ = spread(tokens, gathered)
        pooled, weights = self.pooling(self.pooling_query.expand(bags, -1, -1), tokens, mask)
        return MILOutput(self.classification_layer(pooled[:, 0]), weights[:, 0])


def _latents(count: int, width: int) -> nn.Parameter:
    """Return learned vectors `(1, count, width)`."""
    return nn.Parameter(nn.init.xavier_uniform_(torch.empty(1, count, width)))
