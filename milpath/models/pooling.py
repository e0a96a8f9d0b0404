"""Masked pooling of the embeddings of a bag's tiles."""

import torch
import torch.nn.functional as F
from torch import Tensor, nn


def full_mask(values: Tensor, mask: Tensor | None) -> Tensor:
    """Return the mask `(bags, tiles)` of real tiles, all True if `None` is given.

    Args:
        values: A tensor of shape `(bags, tiles, ...)`.
        mask: bool `(bags, tiles)` or `None`.

    Raises:
        ValueError: If the mask has the wrong shape or type, or a bag has no real tile.
    """
    if mask is not None and (mask.shape != values.shape[:2] or mask.dtype != torch.bool):
        raise ValueError(
            f"mask must be bool of shape {tuple(values.shape[:2])} (bags, tiles), "
            f"not {str(mask.dtype).removeprefix('torch.')} of shape {tuple(mask.shape)}"
        )
    if values.shape[1] == 0:
        raise ValueError("bag 0 of the batch has no real tile; every bag needs at least one")
    if mask is None:
        return torch.ones(values.shape[:2], dtype=torch.bool, device=values.device)
    # Reading the result would synchronise with a GPU, which a compiled or captured graph cannot do. The data module
    # makes no empty bags.
    if mask.device.type == "cpu" and not torch.compiler.is_compiling() and not bool(mask.any(1).all()):
        empty = int((~mask.any(1)).nonzero()[0])
        raise ValueError(f"bag {empty} of the batch has no real tile; every bag needs at least one")
    return mask


def masked_softmax(scores: Tensor, mask: Tensor, dim: int = 1) -> Tensor:
    """Return weights that are 0 on padding and sum to 1 over `dim`: `exp(s_k) / sum_j exp(s_j)` over real tiles.

    The softmax is computed in at least float32, so that half precision does not break the sum.
    """
    return at_least_float32(scores).masked_fill(~mask, -torch.inf).softmax(dim)


def masked_mean(values: Tensor, mask: Tensor) -> tuple[Tensor, Tensor]:
    """Return the mean over real tiles `(bags, dim)` and the weight of each tile, `1 / number of real tiles`."""
    weights = mask.to(at_least_float32(values).dtype) / mask.sum(1, keepdim=True)
    return weighted_sum(weights, values), weights


def masked_max(values: Tensor, mask: Tensor) -> tuple[Tensor, Tensor]:
    """Return the maximum of each dimension `(bags, dim)` and the weight of each tile in it, `(bags, tiles, dim)`.

    The weight is 1 for the tile that attains the maximum; tied tiles share it, so that the order of tiles does not matter.
    """
    hidden = values.masked_fill(~mask[..., None], -torch.inf)
    largest = hidden.amax(1)
    won = (hidden == largest[:, None]).to(at_least_float32(values).dtype)
    return largest, won / won.sum(1, keepdim=True)


def masked_log_sum_exp(values: Tensor, mask: Tensor, sharpness: float = 1.0) -> tuple[Tensor, Tensor]:
    """Return the smooth maximum `log(mean_k exp(r h_k)) / r` of each dimension and its gradient, `(bags, tiles, dim)`.

    The gradient with respect to tile k is `softmax_k(r h_k)`: the contribution of the tile to the result.

    References:
        Ramon, De Raedt. Multi instance neural networks. 2000. Pinheiro, Collobert. From image-level to pixel-level
        labeling with convolutional networks. CVPR 2015, eq. 6.
    """
    hidden = (sharpness * at_least_float32(values)).masked_fill(~mask[..., None], -torch.inf)
    pooled = (hidden.logsumexp(1) - mask.sum(1, keepdim=True).to(hidden.dtype).log()) / sharpness
    return pooled.to(values.dtype), hidden.softmax(1)


def masked_mean_probability(logits: Tensor, mask: Tensor) -> tuple[Tensor, Tensor]:
    """Return the log-odds of the mean probability `p = mean_k sigm(s_k)` of each output, and the weights `1 / K`.

    `log p - log(1 - p)` is computed from `log sum_k sigm(s_k)` and `log sum_k sigm(-s_k)`, which stay finite where p
    itself is rounded to 0 or 1.
    """
    hidden, padding = at_least_float32(logits), ~mask[..., None]
    positive = F.logsigmoid(hidden).masked_fill(padding, -torch.inf).logsumexp(1)
    negative = F.logsigmoid(-hidden).masked_fill(padding, -torch.inf).logsumexp(1)
    return (positive - negative).to(logits.dtype), mask.to(hidden.dtype) / mask.sum(1, keepdim=True)


def at_least_float32(values: Tensor) -> Tensor:
    """Return values in float32; float64 stays float64."""
    return values if values.dtype == torch.float64 else values.float()


def weighted_sum(weights: Tensor, embeddings: Tensor) -> Tensor:
    """Return `z = sum_k a_k h_k`, `(bags, dim)` (Ilse et al. 2018 eq. 7)."""
    return torch.bmm(weights[:, None].to(embeddings.dtype), embeddings).squeeze(1)


class AttentionPooling(nn.Module):
    """Score each tile with a small network; the scores are before the softmax.

    Plain: `s_k = w^T tanh(V h_k^T)`. Gated: `s_k = w^T (tanh(V h_k^T) * sigm(U h_k^T))`, both with biases as in the
    authors' code.

    Args:
        embedding_dim: Width of the embeddings.
        attention_dim: Width of the hidden layer.
        gated: Whether to add the sigmoid gate.
        num_scores: Scores per tile, each with its own w on the shared hidden layer; `None` for one without a dimension
            of its own.
        dropout: Probability of dropout on the hidden layer and on the gate, in [0, 1).

    References:
        Ilse, Tomczak, Welling. Attention-based deep multiple instance learning. ICML 2018, eq. 8 (plain), eq. 9 (gated).
    """

    def __init__(
        self,
        embedding_dim: int,
        attention_dim: int,
        gated: bool,
        num_scores: int | None = None,
        dropout: float = 0.0,
    ) -> None:
        super().__init__()
        self.embedding_dim = embedding_dim
        self.attention_dim = attention_dim
        self.gated = gated
        self.num_scores = num_scores
        self.tanh_layer = nn.Linear(embedding_dim, attention_dim)
        self.gate_layer = nn.Linear(embedding_dim, attention_dim) if gated else None
        self.score_layer = nn.Linear(attention_dim, num_scores or 1)
        self.drop = nn.Dropout(dropout)

    def forward(self, embeddings: Tensor) -> Tensor:
        """Return scores `(bags, tiles)` or `(bags, num_scores, tiles)` of embeddings `(bags, tiles, embedding_dim)`."""
        hidden = self.drop(torch.tanh(self.tanh_layer(embeddings)))
        if self.gate_layer is not None:
            hidden = hidden * self.drop(torch.sigmoid(self.gate_layer(embeddings)))
        scores: Tensor = self.score_layer(hidden)
        return scores.squeeze(-1) if self.num_scores is None else scores.transpose(1, 2)


POOLINGS = ("mean", "max", "log_sum_exp")


def check_pooling(name: str, sharpness: float) -> None:
    """Refuse an unknown pooling.

    Raises:
        ValueError: If the name is not one of `POOLINGS` or the sharpness is not greater than 0.
    """
    if name not in POOLINGS:
        raise ValueError(f"pooling={name!r} must be one of {', '.join(POOLINGS)}")
    if not sharpness > 0:
        raise ValueError(f"sharpness must be greater than 0, not {sharpness}")
