"""Dual-stream multiple-instance learning."""

import torch
from torch import Tensor, nn

from milpath.models.encoders import EncoderSpec
from milpath.models.network import MILNetwork
from milpath.models.output import DetailedMILOutput, MILOutput
from milpath.models.pooling import full_mask, masked_softmax


class DSMIL(MILNetwork):
    """Classify by the critical tile and the tiles that resemble it.

    First stream: a score `W_0 h_k` for each tile and class; the tile with the highest score is the critical tile m.
    Second stream: with queries `q_k` and values `v_k`, the weight `U_k = softmax_k(<q_k, q_m> / sqrt(d))`, the bag
    embedding `b = sum_k U_k v_k` and the score `W_b b`. The bag's logits are the mean of both streams. Attention is U,
    averaged over classes; with several logits, `class_attention` is U of each.

    Args:
        encoder: Name of an encoder, or a mapping of its name and arguments.
        num_outputs: Number of logits.
        query_dim: Width d of the queries.
        dropout: Probability of dropout on the values, in [0, 1).

    References:
        Li, Li, Eliceiri. Dual-stream multiple instance learning network for whole slide image classification with
        self-supervised contrastive learning. CVPR 2021, eq. 3-7.
    """

    separates_bags = True

    def __init__(
        self, encoder: EncoderSpec = "tile_cnn", num_outputs: int = 1, query_dim: int = 128, dropout: float = 0.0
    ) -> None:
        super().__init__(encoder, num_outputs)
        width = self.tile_encoder.embedding_dim
        self.query_dim = query_dim
        self.dropout = dropout
        self.instance_layer = nn.Linear(width, num_outputs)
        self.query_layers = nn.Sequential(
            nn.Linear(width, query_dim), nn.ReLU(), nn.Linear(query_dim, query_dim), nn.Tanh()
        )
        self.value_layers = nn.Sequential(nn.Dropout(dropout), nn.Linear(width, width), nn.ReLU())
        # One filter as wide as the embedding per class: W_b sees the embeddings of all classes.
        self.bag_layer = nn.Conv1d(num_outputs, num_outputs, kernel_size=width)

    def instance_logits(self, embeddings: Tensor) -> Tensor:
        """Return the logits of each tile, `(bags, tiles, num_outputs)`."""
        logits: Tensor = self.instance_layer(embeddings)
        return logits

    def aggregate(self, embeddings: Tensor, mask: Tensor | None = None) -> MILOutput:
        mask = full_mask(embeddings, mask)
        scores = self.instance_logits(embeddings).masked_fill(~mask[..., None], -torch.inf)
        best, critical = scores.max(1)
        queries = self.query_layers(embeddings)
        critical_queries = queries.gather(1, critical[..., None].expand(-1, -1, self.query_dim))
        similarity = torch.einsum("bkd,bcd->bck", queries, critical_queries) / self.query_dim**0.5
        weights = masked_softmax(similarity, mask[:, None].expand_as(similarity), dim=2)
        bag_embeddings = weights.to(embeddings.dtype) @ self.value_layers(embeddings)
        logits = (best + self.bag_layer(bag_embeddings)[..., 0]) / 2
        attention = weights.mean(1)
        if self.num_outputs == 1:
            return MILOutput(logits, attention)
        return DetailedMILOutput(logits, attention, class_attention=weights)
