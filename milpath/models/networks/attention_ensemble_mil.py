"""An ensemble of attention networks, trained together."""

from collections.abc import Mapping

import torch
from torch import Tensor

from milpath.models.encoders import EncoderSpec
from milpath.models.member_linear import MemberLinear
from milpath.models.network import MILNetwork
from milpath.models.output import DetailedMILOutput
from milpath.models.pooling import full_mask, masked_softmax


class AttentionEnsembleMIL(MILNetwork):
    """Classify a bag by several attention networks at once.

    Each member is an `AttentionMIL` with its own attention and classification layer; with the encoder `linear` it also has
    its own layers there, and any other encoder is shared. Logits and attention are means over the members, so that
    attention sums to 1. In training the loss is the mean of the members' losses (`member_logits`): members that start and
    drop out differently stay different, which an average profits from.

    Args:
        encoder: Name of an encoder, or a mapping of its name and arguments.
        gated: Whether the attention has a sigmoid gate.
        num_outputs: Number of logits.
        num_members: Number of members.
        attention_dim: Width of the hidden layer of the attention. `None` means 128, or the width of a member's embedding if
            that is smaller.

    Raises:
        ValueError: If there is no member.

    References:
        Ilse, Tomczak, Welling. Attention-based deep multiple instance learning. ICML 2018, eq. 7-9. Lakshminarayanan,
        Pritzel, Blundell. Simple and scalable predictive uncertainty estimation using deep ensembles. NeurIPS 2017.

    Example:
        >>> network = AttentionEnsembleMIL(encoder={"name": "linear", "num_features": 8}, num_members=3)
        >>> output = network(torch.rand(2, 5, 8))
        >>> output.attention.shape, output.member_logits.shape
        (torch.Size([2, 5]), torch.Size([2, 3, 1]))
    """

    separates_bags = True

    def __init__(
        self,
        encoder: EncoderSpec = "tile_cnn",
        gated: bool = False,
        num_outputs: int = 1,
        num_members: int = 10,
        attention_dim: int | None = None,
    ) -> None:
        if num_members < 1:
            raise ValueError(f"num_members={num_members} of an ensemble must be at least 1")
        own_layers = isinstance(encoder, Mapping) and encoder.get("name") == "linear"
        if isinstance(encoder, Mapping) and own_layers:
            encoder = {**encoder, "num_members": num_members}
        super().__init__(encoder, num_outputs)
        self.gated = gated
        self.num_members = num_members
        self.attention_dim = attention_dim
        self.own_layers = own_layers
        width = self.tile_encoder.embedding_dim // (num_members if own_layers else 1)
        attention_width = attention_dim or min(128, width)
        self.tanh_layer = MemberLinear(num_members, width, attention_width)
        self.gate_layer = MemberLinear(num_members, width, attention_width) if gated else None
        self.score_layer = MemberLinear(num_members, attention_width, 1)
        self.classification_layer = MemberLinear(num_members, width, num_outputs)

    def aggregate(self, embeddings: Tensor, mask: Tensor | None = None) -> DetailedMILOutput:
        mask = full_mask(embeddings, mask)
        if self.own_layers:
            tiles = embeddings.unflatten(2, (self.num_members, -1)).movedim(2, 0)
        else:
            tiles = embeddings.expand(self.num_members, *embeddings.shape)
        rows = tiles.flatten(1, 2)
        hidden = torch.tanh(self.tanh_layer(rows))
        if self.gate_layer is not None:
            hidden = hidden * torch.sigmoid(self.gate_layer(rows))
        scores = self.score_layer(hidden).view(self.num_members, *mask.shape)
        attention = masked_softmax(scores, mask.expand_as(scores), dim=2)
        pooled = (attention[:, :, None].to(tiles.dtype) @ tiles)[:, :, 0]
        logits = self.classification_layer(pooled).transpose(0, 1)
        return DetailedMILOutput(logits.mean(1), attention.mean(0), member_logits=logits)
