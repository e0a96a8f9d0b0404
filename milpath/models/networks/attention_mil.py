"""Attention-based multiple-instance learning."""

from torch import Tensor, nn

from milpath.models.encoders import EncoderSpec
from milpath.models.network import MILNetwork
from milpath.models.output import MILOutput
from milpath.models.pooling import AttentionPooling, full_mask, masked_softmax, weighted_sum


class AttentionMIL(MILNetwork):
    """Classify a bag by the attention-weighted mean of its tiles.

    `z = sum_k a_k h_k` with `a = softmax(w^T tanh(V h_k^T))`, or with a sigmoid gate `* sigm(U h_k^T)` inside; the
    logits are linear in z. With default arguments this is the network of the article, with 22,465,238 parameters.

    Args:
        encoder: Name of an encoder, or a mapping of its name and arguments.
        gated: Whether the attention has a sigmoid gate.
        num_outputs: Number of logits.
        attention_dim: Width of the hidden layer of the attention. `None` means 128, or the width of the embedding if
            that is smaller. Both are the paper's choices (64 for embeddings of width 64 on the classic data sets).

    References:
        Ilse, Tomczak, Welling. Attention-based deep multiple instance learning. ICML 2018, eq. 7-9.

    Example:
        >>> import torch
        >>> network = AttentionMIL(encoder={"name": "linear", "num_features": 8})
        >>> output = network(torch.rand(2, 5, 8))
        >>> output.logits.shape, output.attention.shape
        (torch.Size([2, 1]), torch.Size([2, 5]))
    """

    def __init__(
        self,
        encoder: EncoderSpec = "tile_cnn",
        gated: bool = False,
        num_outputs: int = 1,
        attention_dim: int | None = None,
    ) -> None:
        super().__init__(encoder, num_outputs)
        self.gated = gated
        self.attention_dim = attention_dim
        embedding_dim = self.tile_encoder.embedding_dim
        self.attention_pooling = AttentionPooling(embedding_dim, attention_dim or min(128, embedding_dim), gated)
        self.classification_layer = nn.Linear(embedding_dim, num_outputs)

    def aggregate(self, embeddings: Tensor, mask: Tensor | None = None) -> MILOutput:
        mask = full_mask(embeddings, mask)
        attention = masked_softmax(self.attention_pooling(embeddings), mask)
        return MILOutput(self.classification_layer(weighted_sum(attention, embeddings)), attention)
