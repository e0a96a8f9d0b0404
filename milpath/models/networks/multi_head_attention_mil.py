"""Multi-head attention-based multiple-instance learning."""

import torch
from torch import Tensor, nn

from milpath.models.encoders import EncoderSpec
from milpath.models.network import MILNetwork
from milpath.models.output import MILOutput
from milpath.models.pooling import AttentionPooling, full_mask, masked_softmax


class MultiHeadAttentionMIL(MILNetwork):
    """Classify a bag by several attention-weighted means, each over its own part of the embedding.

    A hidden layer `f_k = ReLU(W h_k)` is cut into M parts of equal width. Head m attends to part m:
    `a^m = softmax_k(w_m^T (tanh(V_m f_k^m) * sigm(U_m f_k^m)))` and `z^m = sum_k a_k^m f_k^m`; the logits are linear in
    `[z^1, ..., z^M]`. Attention is the mean over heads. With one head this is gated attention on the hidden layer.

    Args:
        encoder: Name of an encoder, or a mapping of its name and arguments.
        num_outputs: Number of logits.
        hidden_dim: Width of the hidden layer, a multiple of the number of heads.
        num_heads: Number M of heads.
        attention_dim: Width of the hidden layer of each head; `None` means half the width of its part, as the authors use.
        dropout: Probability of dropout after the hidden layer and inside the attention, in [0, 1).

    References:
        Keshvarikhojasteh, Pluim, Veta. Multi-head attention-based deep multiple instance learning. MICCAI workshop on
        computational pathology (PMLR 254), 2024, section 2.

    Example:
        >>> network = MultiHeadAttentionMIL(encoder={"name": "linear", "num_features": 8}, hidden_dim=16)
        >>> network(torch.rand(2, 5, 8)).attention.shape
        torch.Size([2, 5])
    """

    separates_bags = True

    def __init__(
        self,
        encoder: EncoderSpec = "tile_cnn",
        num_outputs: int = 1,
        hidden_dim: int = 512,
        num_heads: int = 2,
        attention_dim: int | None = None,
        dropout: float = 0.25,
    ) -> None:
        super().__init__(encoder, num_outputs)
        if num_heads < 1 or hidden_dim % num_heads:
            raise ValueError(
                f"hidden_dim={hidden_dim} must be a multiple of num_heads={num_heads}, which is at least 1"
            )
        self.hidden_dim = hidden_dim
        self.num_heads = num_heads
        self.attention_dim = attention_dim
        self.dropout = dropout
        width = hidden_dim // num_heads
        self.hidden_layers = nn.Sequential(
            nn.Linear(self.tile_encoder.embedding_dim, hidden_dim), nn.ReLU(), nn.Dropout(dropout)
        )
        self.attention_heads = nn.ModuleList(
            AttentionPooling(width, attention_dim or max(1, width // 2), gated=True, dropout=dropout)
            for _ in range(num_heads)
        )
        self.classification_layer = nn.Linear(hidden_dim, num_outputs)

    def aggregate(self, embeddings: Tensor, mask: Tensor | None = None) -> MILOutput:
        mask = full_mask(embeddings, mask)
        parts = self.hidden_layers(embeddings).chunk(self.num_heads, dim=2)
        scores = torch.stack([head(part) for head, part in zip(self.attention_heads, parts, strict=True)], 1)
        weights = masked_softmax(scores, mask[:, None].expand_as(scores), dim=2)
        shares = weights.to(embeddings.dtype).split(1, dim=1)
        pooled = torch.cat([share @ part for share, part in zip(shares, parts, strict=True)], 2)
        return MILOutput(self.classification_layer(pooled[:, 0]), weights.mean(1))
