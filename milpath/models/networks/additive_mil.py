"""Additive multiple-instance learning, in which each tile adds an exact amount to each logit."""

import torch
from torch import Tensor, nn

from milpath.models.encoders import EncoderSpec
from milpath.models.network import MILNetwork
from milpath.models.output import DetailedMILOutput, MILOutput
from milpath.models.pooling import AttentionPooling, at_least_float32, full_mask, masked_softmax


class AdditiveMIL(MILNetwork):
    """Weight each tile by attention, classify it, and sum over tiles.

    Tile k contributes `c_k = psi(a_k h_k) + a_k b` with the attention a_k of Ilse et al., and the logits are
    `sum_k c_k`: `contributions` gives what each tile adds to (or takes from) each logit, which is also its Shapley value.
    In attention-based networks the classifier follows the sum instead, and no such amounts exist.

    psi has a ReLU layer without biases, and the bias b is shared out by attention: a bias inside psi would be added once per
    tile, so that the logits would grow with the number of tiles.

    Args:
        encoder: Name of an encoder, or a mapping of its name and arguments.
        num_outputs: Number of logits.
        gated: Whether the attention has a sigmoid gate.
        attention_dim: Width of the hidden layer of the attention. `None` means 128, or the width of the embedding if that
            is smaller.
        hidden_dim: Width of the hidden layer of psi; `None` for a linear psi, with which the logits are those of
            `AttentionMIL`.

    References:
        Javed, Juyal, Padigela, Taylor-Weiner, Yu, Prakash. Additive MIL: intrinsically interpretable multiple instance
        learning for pathology. NeurIPS 2022, section 3.

    Example:
        >>> network = AdditiveMIL(encoder={"name": "linear", "num_features": 8}).eval()
        >>> output = network(torch.rand(2, 5, 8))
        >>> bool(torch.allclose(output.contributions.sum(2), output.logits, atol=1e-6))
        True
    """

    separates_bags = True

    def __init__(
        self,
        encoder: EncoderSpec = "tile_cnn",
        num_outputs: int = 1,
        gated: bool = False,
        attention_dim: int | None = None,
        hidden_dim: int | None = 128,
    ) -> None:
        super().__init__(encoder, num_outputs)
        self.gated = gated
        self.attention_dim = attention_dim
        self.hidden_dim = hidden_dim
        embedding_dim = self.tile_encoder.embedding_dim
        self.attention_pooling = AttentionPooling(embedding_dim, attention_dim or min(128, embedding_dim), gated)
        self.hidden_layer = None if hidden_dim is None else nn.Linear(embedding_dim, hidden_dim, bias=False)
        self.classification_layer = nn.Linear(hidden_dim or embedding_dim, num_outputs)

    def aggregate(self, embeddings: Tensor, mask: Tensor | None = None) -> MILOutput:
        mask = full_mask(embeddings, mask)
        attention = masked_softmax(self.attention_pooling(embeddings), mask)
        hidden = embeddings * mask[..., None]
        if self.hidden_layer is not None:
            hidden = torch.relu(self.hidden_layer(hidden))
        # psi(a h) = a psi(h) for a >= 0, as a ReLU layer without biases is positively homogeneous.
        contributions = attention[..., None] * at_least_float32(self.classification_layer(hidden))
        logits = contributions.sum(1).to(hidden.dtype)
        return DetailedMILOutput(logits, attention, contributions=contributions.transpose(1, 2))
