"""Instance-level pooling: every tile is classified, the bag is made of their scores."""

from torch import Tensor, nn

from milpath.models.encoders import EncoderSpec
from milpath.models.network import MILNetwork
from milpath.models.output import MILOutput
from milpath.models.pooling import POOLINGS, full_mask, pool


class InstancePoolMIL(MILNetwork):
    """Classify each tile, then pool the logits: `pool_k g(h_k)`.

    Pooling works on logits: the maximum is that of the probabilities, since the sigmoid keeps the order. Attention is the
    gradient of the bag's logit by the tile's: the winner for the maximum (shared by ties), `1/K` for the mean,
    `softmax_k(r s_k)` for log-sum-exp.

    Args:
        encoder: Name of an encoder, or a mapping of its name and arguments.
        pooling: "mean", "max" or "log_sum_exp".
        num_outputs: Number of logits.
        sharpness: r of `log(mean exp(r s)) / r`, > 0; used by log_sum_exp alone.

    References:
        Ilse, Tomczak, Welling. Attention-based deep multiple instance learning. ICML 2018, sec. 2.2 (instance-level
        approach). Pinheiro, Collobert. From image-level to pixel-level labeling. CVPR 2015, eq. 6 (log-sum-exp).
    """

    def __init__(
        self, encoder: EncoderSpec = "tile_cnn", pooling: str = "max", num_outputs: int = 1, sharpness: float = 1.0
    ) -> None:
        if pooling not in POOLINGS:
            raise ValueError(f"pooling {pooling!r} is none of {', '.join(POOLINGS)}")
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
        logits, attention = pool(self.pooling, self.instance_logits(embeddings), mask, self.sharpness)
        return MILOutput(logits, attention)
