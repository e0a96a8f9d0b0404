"""Instance-level pooling: every tile is classified, and the scores are pooled."""

from torch import Tensor, nn

from milpath.models.encoders import EncoderSpec
from milpath.models.network import MILNetwork
from milpath.models.output import DetailedMILOutput, MILOutput
from milpath.models.pooling import check_pooling, full_mask, masked_log_sum_exp, masked_max, masked_mean_probability


class InstancePoolMIL(MILNetwork):
    """Classify each tile, then pool: the probability of the bag is `pool_k sigm(g(h_k))`.

    "mean" averages the probabilities of the tiles and returns the log-odds of that mean; "max" takes the highest tile,
    which is the same for logits and probabilities; "log_sum_exp" is a smooth maximum of the logits. Several outputs are
    pooled separately. Attention is `1/K` for the mean, 1 for the highest tile for the maximum (shared by ties) and
    `softmax_k(r s_k)` for log-sum-exp, averaged over outputs; with several of them, the latter two give
    `class_attention` as well.

    Args:
        encoder: Name of an encoder, or a mapping of its name and arguments.
        pooling: "mean", "max" or "log_sum_exp".
        num_outputs: Number of logits.
        sharpness: r of `log(mean exp(r s)) / r`, > 0; used only by log_sum_exp.

    References:
        Ilse, Tomczak, Welling. Attention-based deep multiple instance learning. ICML 2018, sec. 2.2 (instance-level
        approach). Pinheiro, Collobert. From image-level to pixel-level labeling. CVPR 2015, eq. 6 (log-sum-exp).
    """

    learns_attention = False
    separates_bags = True

    def __init__(
        self, encoder: EncoderSpec = "tile_cnn", pooling: str = "max", num_outputs: int = 1, sharpness: float = 1.0
    ) -> None:
        check_pooling(pooling, sharpness)
        super().__init__(encoder, num_outputs)
        self.pooling = pooling
        self.sharpness = sharpness
        self.classification_layer = nn.Linear(self.tile_encoder.embedding_dim, num_outputs)

    def instance_logits(self, embeddings: Tensor) -> Tensor:
        """Return the logits of each tile, `(bags, tiles, num_outputs)`."""
        logits: Tensor = self.classification_layer(embeddings)
        return logits

    def aggregate(self, embeddings: Tensor, mask: Tensor | None = None) -> MILOutput:
        mask = full_mask(embeddings, mask)
        scores = self.instance_logits(embeddings)
        if self.pooling == "mean":
            return MILOutput(*masked_mean_probability(scores, mask))
        if self.pooling == "max":
            logits, weights = masked_max(scores, mask)
        else:
            logits, weights = masked_log_sum_exp(scores, mask, self.sharpness)
        attention = weights.mean(2)
        if self.num_outputs == 1:
            return MILOutput(logits, attention)
        return DetailedMILOutput(logits, attention, class_attention=weights.transpose(1, 2))
