"""Attention-based multiple-instance learning."""

from collections.abc import Sequence

import torch
from torch import Tensor, nn

from milpath.models.encoders import EncoderSpec
from milpath.models.network import MILNetwork
from milpath.models.output import DetailedMILOutput, MILOutput
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
        attention_per_target: Whether each of several targets has its own weights w on the shared hidden layer, and so its
            own attention and its own bag embedding; attention is then their mean.
        outputs_per_target: Number of logits of each target, needed for an attention per target.

    Raises:
        ValueError: If there is to be an attention per target, but the logits of the targets are not given.

    References:
        Ilse, Tomczak, Welling. Attention-based deep multiple instance learning. ICML 2018, eq. 7-9.

    Example:
        >>> import torch
        >>> network = AttentionMIL(encoder={"name": "linear", "num_features": 8})
        >>> output = network(torch.rand(2, 5, 8))
        >>> output.logits.shape, output.attention.shape
        (torch.Size([2, 1]), torch.Size([2, 5]))
    """

    separates_bags = True

    def __init__(
        self,
        encoder: EncoderSpec = "tile_cnn",
        gated: bool = False,
        num_outputs: int = 1,
        attention_dim: int | None = None,
        attention_per_target: bool = False,
        outputs_per_target: Sequence[int] | None = None,
    ) -> None:
        super().__init__(encoder, num_outputs)
        self.gated = gated
        self.attention_dim = attention_dim
        self.attention_per_target = attention_per_target
        self.outputs_per_target = list(outputs_per_target) if attention_per_target and outputs_per_target else None
        if attention_per_target and sum(self.outputs_per_target or ()) != num_outputs:
            raise ValueError(
                f"attention_per_target needs outputs_per_target whose sum is num_outputs={num_outputs}, not "
                f"{self.outputs_per_target}; milpath train takes them from target=several or multilabel"
            )
        embedding_dim = self.tile_encoder.embedding_dim
        self.attention_pooling = AttentionPooling(
            embedding_dim, attention_dim or min(128, embedding_dim), gated,
            None if self.outputs_per_target is None else len(self.outputs_per_target),
        )  # fmt: skip
        self.classification_layer = nn.Linear(embedding_dim, num_outputs)

    def aggregate(self, embeddings: Tensor, mask: Tensor | None = None) -> MILOutput:
        mask = full_mask(embeddings, mask)
        if self.outputs_per_target is not None:
            return self._aggregate_per_target(embeddings, mask, self.outputs_per_target)
        attention = masked_softmax(self.attention_pooling(embeddings), mask)
        return MILOutput(self.classification_layer(weighted_sum(attention, embeddings)), attention)

    def _aggregate_per_target(self, embeddings: Tensor, mask: Tensor, widths: Sequence[int]) -> MILOutput:
        """Return the output with the logits of each target from the mean that its own attention weights."""
        scores = self.attention_pooling(embeddings)
        attention = masked_softmax(scores, mask[:, None].expand_as(scores), dim=2)
        pooled = attention.to(embeddings.dtype) @ embeddings
        # A row of the weights belongs to a logit, whose embedding is that of its target.
        of_logits = torch.repeat_interleave(
            torch.tensor(list(widths), device=pooled.device), output_size=self.num_outputs
        )
        layer = self.classification_layer
        logits = (pooled[:, of_logits] * layer.weight).sum(2) + layer.bias
        return DetailedMILOutput(logits, attention.mean(1), target_attention=attention)
