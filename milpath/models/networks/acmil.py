"""Attention-challenging multiple-instance learning."""

import torch
from torch import Tensor, nn

from milpath.models.encoders import EncoderSpec
from milpath.models.network import MILNetwork
from milpath.models.output import DetailedMILOutput, MILOutput
from milpath.models.pooling import AttentionPooling, full_mask, masked_softmax, weighted_sum


class ACMIL(MILNetwork):
    """Gated attention in several branches, whose strongest tiles are hidden at random during training.

    On a hidden layer `h_k = ReLU(W x_k)`, branch b has the weights `a_b = softmax_k(w_b^T (tanh(V h_k) * sigm(U h_k)))`, the
    embedding `z_b = sum_k a_bk h_k` and its own classifier. The bag is classified from `z = sum_k a_k h_k` with
    `a = mean_b a_b`. During training each branch loses a random share of its K tiles with the highest scores before the
    softmax, so that it cannot rest on a few of them. In evaluation no tile is hidden and nothing is random.

    The losses of the branches and of their similarity are in `milpath.training.branch_losses`
    (auxiliary_loss=acmil_branches); without them the branches may become equal.

    Args:
        encoder: Name of an encoder, or a mapping of its name and arguments.
        num_outputs: Number of logits.
        hidden_dim: Width of the layer before the attention.
        attention_dim: Width of the hidden layer of the attention.
        num_branches: Number of attention branches.
        num_masked: K, number of tiles with the highest scores among which some are hidden; 0 hides none.
        mask_share: Share of these K tiles that is hidden in each branch and step, in [0, 1).

    Raises:
        ValueError: If an option is out of its range.

    References:
        Zhang, Li, Sun, Zheng, Zhu, Yang. Attention-challenging multiple instance learning for whole slide image
        classification. ECCV 2024 (multiple branch attention, stochastic top-K instance masking).
    """

    auxiliary_parts = ("branch_layers",)

    def __init__(
        self,
        encoder: EncoderSpec = "tile_cnn",
        num_outputs: int = 1,
        hidden_dim: int = 256,
        attention_dim: int = 128,
        num_branches: int = 5,
        num_masked: int = 10,
        mask_share: float = 0.6,
    ) -> None:
        super().__init__(encoder, num_outputs)
        if num_branches < 1 or num_masked < 0 or not 0 <= mask_share < 1:
            raise ValueError(
                f"num_branches={num_branches} must be at least 1, num_masked={num_masked} at least 0 and "
                f"mask_share={mask_share} in [0, 1)"
            )
        self.hidden_dim = hidden_dim
        self.attention_dim = attention_dim
        self.num_branches = num_branches
        self.num_masked = num_masked
        self.mask_share = mask_share
        self.hidden_layers = nn.Sequential(nn.Linear(self.tile_encoder.embedding_dim, hidden_dim), nn.ReLU())
        self.attention_pooling = AttentionPooling(hidden_dim, attention_dim, gated=True, num_scores=num_branches)
        self.branch_layers = nn.ModuleList(nn.Linear(hidden_dim, num_outputs) for _ in range(num_branches))
        self.classification_layer = nn.Linear(hidden_dim, num_outputs)

    def aggregate(self, embeddings: Tensor, mask: Tensor | None = None) -> MILOutput:
        mask = full_mask(embeddings, mask)
        hidden = self.hidden_layers(embeddings)
        scores = self.attention_pooling(hidden)
        kept = mask[:, None].expand_as(scores)
        if self.training and self.num_masked:
            kept = kept & ~hide_strongest(scores, kept, self.num_masked, self.mask_share)
        branches = masked_softmax(scores, kept, dim=2)
        attention = branches.mean(1)
        pooled = branches.to(hidden.dtype) @ hidden
        logits = [layer(pooled[:, number]) for number, layer in enumerate(self.branch_layers)]
        return DetailedMILOutput(
            self.classification_layer(weighted_sum(attention, hidden)), attention,
            branch_logits=torch.stack(logits, 1), branch_attention=branches,
        )  # fmt: skip


def hide_strongest(scores: Tensor, real: Tensor, num_strongest: int, share: float) -> Tensor:
    """Choose `floor(share * K)` of the K tiles with the highest scores at random, separately in each branch.

    Args:
        scores: `(bags, branches, tiles)`.
        real: bool, likewise; False on padding.
        num_strongest: K, or the number of real tiles if there are fewer.
        share: In [0, 1); at least one tile always remains.

    Returns:
        bool, likewise; True for a hidden tile.
    """
    places = scores.detach().masked_fill(~real, -torch.inf).argsort(dim=2, descending=True, stable=True).argsort(2)
    count = real.sum(2, keepdim=True).clamp(max=num_strongest)
    among = real & (places < count)
    draws = torch.rand(scores.shape, device=scores.device).masked_fill(~among, 2.0)
    return among & (draws.argsort(2).argsort(2) < (count.double() * share).floor())
