"""Embedding-level pooling: one embedding per bag, without learned weights."""

from torch import Tensor, nn

from milpath.models.encoders import EncoderSpec
from milpath.models.network import MILNetwork
from milpath.models.output import MILOutput
from milpath.models.pooling import check_pooling, full_mask, masked_log_sum_exp, masked_max, masked_mean


class EmbeddingPoolMIL(MILNetwork):
    """Pool the embeddings of a bag's tiles, then classify: `g(pool_k h_k)`.

    Attention is what each tile contributes: `1/K` for the mean, the share of dimensions it wins for the maximum, the
    gradient averaged over dimensions for log-sum-exp.

    Args:
        encoder: Name of an encoder, or a mapping of its name and arguments.
        pooling: "mean", "max" or "log_sum_exp".
        num_outputs: Number of logits.
        sharpness: r of `log(mean exp(r h)) / r`, > 0; used only by log_sum_exp.

    References:
        Ilse, Tomczak, Welling. Attention-based deep multiple instance learning. ICML 2018, sec. 2.2, eq. 5-6
        (embedding-level approach).
    """

    learns_attention = False
    separates_bags = True

    def __init__(
        self, encoder: EncoderSpec = "tile_cnn", pooling: str = "mean", num_outputs: int = 1, sharpness: float = 1.0
    ) -> None:
        check_pooling(pooling, sharpness)
        super().__init__(encoder, num_outputs)
        self.pooling = pooling
        self.sharpness = sharpness
        self.classification_layer = nn.Linear(self.tile_encoder.embedding_dim, num_outputs)

    def aggregate(self, embeddings: Tensor, mask: Tensor | None = None) -> MILOutput:
        mask = full_mask(embeddings, mask)
        if self.pooling == "mean":
            pooled, attention = masked_mean(embeddings, mask)
        elif self.pooling == "max":
            pooled, weights = masked_max(embeddings, mask)
            attention = weights.mean(2)
        else:
            pooled, weights = masked_log_sum_exp(embeddings, mask, self.sharpness)
            attention = weights.mean(2)
        return MILOutput(self.classification_layer(pooled), attention)
