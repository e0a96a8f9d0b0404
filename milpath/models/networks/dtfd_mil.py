"""Double-tier feature distillation multiple-instance learning."""

import torch
from torch import Tensor, nn

from milpath.models.encoders import EncoderSpec
from milpath.models.network import MILNetwork
from milpath.models.output import DetailedMILOutput, MILOutput
from milpath.models.pooling import AttentionPooling, at_least_float32, full_mask, masked_softmax

# Scores closer than this count as similar: the weights of the tiles differ by less than a tenth.
_SIMILAR = 0.1


class DTFDMIL(MILNetwork):
    """Gated attention over pseudo-bags of tiles, then gated attention over the embeddings of the pseudo-bags.

    The tiles of a bag are dealt to M pseudo-bags. First tier, on `h_k = ReLU(W x_k)`: within pseudo-bag m,
    `a_k = softmax_{k in m}(s_k)`, `z_m = sum_{k in m} a_k h_k`, and a classifier of pseudo-bags. Second tier:
    `b = softmax_m(t_m)` over the embeddings z_m and the logits of the bag from `sum_m b_m z_m`. The attention of a tile is
    `b_m a_k`. Of the paper's ways to distil a pseudo-bag this is aggregated feature selection (AFS).

    During training the tiles are dealt at random in each step. The authors do so in evaluation too; here a bag always gets
    the same answer, in any order of its tiles. The tile with the r-th highest score of the first tier goes to pseudo-bag
    r mod M, so that pseudo-bags are alike. Tiles with similar scores share their pseudo-bags in equal parts, for a
    rounding error must not move a whole tile: a tile takes part in the pseudo-bags of all tiles j by
    `max(0, 1 - |s_k - s_j| / 0.1)`, normalised, and its weight in a pseudo-bag is multiplied by its part. The strongest
    tiles thus lie in different pseudo-bags, and the many similar ones in all.

    The loss of the first tier is in `milpath.training.branch_losses` (auxiliary_loss=dtfd_pseudo_bags). Both tiers are
    trained together; the authors step one optimiser per tier, so that the loss of the bag does not reach the first tier.

    Args:
        encoder: Name of an encoder, or a mapping of its name and arguments.
        num_outputs: Number of logits.
        hidden_dim: Width of the layer before the attention.
        attention_dim: Width of the hidden layer of both attentions.
        num_pseudo_bags: Number M of pseudo-bags; a bag with fewer tiles has one tile in each.
        dropout: Probability of dropout before both classifiers, in [0, 1).

    Raises:
        ValueError: If there is no pseudo-bag.

    References:
        Zhang, Meng, Zhao, Qiao, Yang, Coupland, Zheng. DTFD-MIL: double-tier feature distillation multiple instance learning
        for histopathology whole slide image classification. CVPR 2022, section 3.3.
    """

    auxiliary_parts = ("pseudo_bag_layer",)

    def __init__(
        self,
        encoder: EncoderSpec = "tile_cnn",
        num_outputs: int = 1,
        hidden_dim: int = 512,
        attention_dim: int = 128,
        num_pseudo_bags: int = 4,
        dropout: float = 0.0,
    ) -> None:
        super().__init__(encoder, num_outputs)
        if num_pseudo_bags < 1:
            raise ValueError(f"num_pseudo_bags={num_pseudo_bags} must be at least 1")
        self.hidden_dim = hidden_dim
        self.attention_dim = attention_dim
        self.num_pseudo_bags = num_pseudo_bags
        self.dropout = dropout
        self.hidden_layers = nn.Sequential(nn.Linear(self.tile_encoder.embedding_dim, hidden_dim), nn.ReLU())
        self.attention_pooling = AttentionPooling(hidden_dim, attention_dim, gated=True)
        self.pseudo_bag_layer = nn.Linear(hidden_dim, num_outputs)
        self.bag_pooling = AttentionPooling(hidden_dim, attention_dim, gated=True)
        self.classification_layer = nn.Linear(hidden_dim, num_outputs)
        self.drop = nn.Dropout(dropout)

    def aggregate(self, embeddings: Tensor, mask: Tensor | None = None) -> MILOutput:
        mask = full_mask(embeddings, mask)
        hidden = self.hidden_layers(embeddings)
        scores = self.attention_pooling(hidden)
        if self.training:
            draws = torch.rand(scores.shape, device=scores.device)
            parts = deal(draws, mask, self.num_pseudo_bags).to(at_least_float32(scores).dtype)
        else:
            parts = deal_alike(at_least_float32(scores).detach(), mask, self.num_pseudo_bags)
        filled = (parts > 0).any(2)
        # A softmax over no tile is NaN, also in the gradient; an empty pseudo-bag gets all tiles and then weights of 0.
        parts = torch.where(filled[..., None], parts, mask[:, None].to(parts.dtype))
        first = masked_softmax(at_least_float32(scores)[:, None] + parts.log(), parts > 0, dim=2) * filled[..., None]
        pooled = first.to(hidden.dtype) @ hidden
        second = masked_softmax(self.bag_pooling(pooled), filled)
        bag = (second[:, None].to(hidden.dtype) @ pooled)[:, 0]
        return DetailedMILOutput(
            self.classification_layer(self.drop(bag)), (second[..., None] * first).sum(1),
            branch_logits=self.pseudo_bag_layer(self.drop(pooled)), branch_attention=first,
        )  # fmt: skip


def deal(keys: Tensor, mask: Tensor, num_groups: int) -> Tensor:
    """Deal the tiles of each bag to groups by descending key: rank r to group r mod M.

    Args:
        keys: `(bags, tiles)`.
        mask: bool `(bags, tiles)`, True for real tiles.
        num_groups: M.

    Returns:
        bool `(bags, M, tiles)`; each real tile is in one group, and sizes of groups differ by at most one.

    Example:
        >>> deal(torch.tensor([[0.1, 0.9, 0.5]]), torch.ones(1, 3, dtype=torch.bool), 2).int().tolist()
        [[[1, 1, 0], [0, 0, 1]]]
    """
    ranks = keys.masked_fill(~mask, -torch.inf).argsort(dim=1, descending=True, stable=True).argsort(1)
    groups = torch.arange(num_groups, device=keys.device)
    return (ranks[:, None] % num_groups == groups[:, None]) & mask[:, None]


def deal_alike(scores: Tensor, mask: Tensor, num_groups: int) -> Tensor:
    """Deal the tiles of each bag to groups by rank, similar tiles to the same groups in parts.

    Args:
        scores: `(bags, tiles)`.
        mask: bool `(bags, tiles)`, True for real tiles.
        num_groups: M.

    Returns:
        `(bags, M, tiles)`, the part of each tile in each group: `sum_j K_kj [rank_j mod M = m] / sum_j K_kj` with
        `K_kj = max(0, 1 - |s_k - s_j| / 0.1)`; sums to 1 over groups, 0 on padding. It is continuous in the scores.

    Example:
        >>> scores = torch.tensor([[3.0, 2.0, 1.0, 1.0]])
        >>> deal_alike(scores, torch.ones(1, 4, dtype=torch.bool), 2).tolist()
        [[[1.0, 0.0, 0.5, 0.5], [0.0, 1.0, 0.5, 0.5]]]
    """
    # Ascending from the highest score, padding last; the kernel is summed with running sums instead of over all pairs.
    keys, order = (-scores.double()).masked_fill(~mask, torch.inf).sort(dim=1, stable=True)
    keys = keys.contiguous()
    real = mask.gather(1, order)
    places = torch.arange(keys.shape[1], device=keys.device)
    groups = torch.arange(num_groups, device=keys.device)
    dealt = ((places % num_groups == groups[:, None]) & real[:, None]).double()
    finite = keys.masked_fill(~real, 0)
    # Relative to the first, so that differences of the sums keep their digits.
    finite = (finite - finite[:, :1]).masked_fill(~real, 0)
    counts, sums = _running(dealt), _running(dealt * finite[:, None])
    first, last = (torch.searchsorted(keys, keys + side, right=side > 0) for side in (-_SIMILAR, _SIMILAR))
    here, slope = places.expand_as(keys), finite[:, None] / _SIMILAR
    above = _between(counts, first, here) * (1 - slope) + _between(sums, first, here) / _SIMILAR
    below = _between(counts, here, last) * (1 + slope) - _between(sums, here, last) / _SIMILAR
    parts = (above + below).clamp(min=0) * real[:, None]
    parts = (parts / parts.sum(1, keepdim=True).clamp(min=1e-9)).to(scores.dtype)
    return torch.zeros_like(parts).scatter(2, order[:, None].expand_as(parts), parts)


def _running(values: Tensor) -> Tensor:
    """Return the sums of the first 0, 1, ... values along the last dimension."""
    return torch.nn.functional.pad(values.cumsum(-1), (1, 0))


def _between(running: Tensor, start: Tensor, stop: Tensor) -> Tensor:
    """Return sums over `start <= index < stop` for each tile, `(bags, groups, tiles)`."""
    start, stop = (place[:, None].expand(-1, running.shape[1], -1) for place in (start, stop))
    return running.gather(2, stop) - running.gather(2, start)
