"""An ensemble of attention networks, trained together."""

from collections.abc import Sequence
from itertools import pairwise

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from milpath.models.encoders import EncoderSpec
from milpath.models.network import MILNetwork
from milpath.models.output import DetailedMILOutput
from milpath.models.pooling import full_mask, masked_softmax


class MemberLinear(nn.Module):
    """A linear layer of its own for each of several members, computed as one batched product.

    Each member starts from the distribution of `torch.nn.Linear`.

    Args:
        num_members: Number M of members.
        in_dim: Width of the input.
        out_dim: Width of the output.
    """

    def __init__(self, num_members: int, in_dim: int, out_dim: int) -> None:
        super().__init__()
        bound = in_dim**-0.5
        self.weight = nn.Parameter(torch.empty(num_members, in_dim, out_dim).uniform_(-bound, bound))
        self.bias = nn.Parameter(torch.empty(num_members, 1, out_dim).uniform_(-bound, bound))

    def forward(self, values: Tensor) -> Tensor:
        """Return `(members, rows, out_dim)` of values `(members, rows, in_dim)`."""
        return torch.baddbmm(self.bias, values, self.weight)


class AttentionEnsembleMIL(MILNetwork):
    """Classify a bag by several attention networks on the embeddings of one encoder.

    Each member has its own hidden layers, attention and classification layer: `f_k = ReLU(W h_k)` for each width,
    `a = softmax(w^T tanh(V f_k))`, or with a sigmoid gate, `z = sum_k a_k f_k`. Logits and attention are means over the
    members, so that attention sums to 1. In training the loss is the mean of the members' losses (`member_logits`): members
    that start and drop out differently stay different, which an average profits from. With `encoder.hidden_dims=[]` they
    share nothing but the standardised features.

    Args:
        encoder: Name of an encoder, or a mapping of its name and arguments.
        num_outputs: Number of logits.
        num_members: Number of members.
        hidden_dims: Width of each hidden layer of a member; empty for none.
        gated: Whether the attention has a sigmoid gate.
        attention_dim: Width of the hidden layer of the attention. `None` means 128, or the last width of `hidden_dims` if that
            is smaller.
        dropout: Probability of dropout after each hidden layer, in [0, 1).
        input_dropout: Probability with which a feature of the embedding is dropped, separately for each tile and member, in
            [0, 1).

    Raises:
        ValueError: If there is no member.

    References:
        Ilse, Tomczak, Welling. Attention-based deep multiple instance learning. ICML 2018, eq. 7-9. Lakshminarayanan, Pritzel,
        Blundell. Simple and scalable predictive uncertainty estimation using deep ensembles. NeurIPS 2017.

    Example:
        >>> network = AttentionEnsembleMIL(encoder={"name": "linear", "num_features": 8}, num_members=3)
        >>> output = network(torch.rand(2, 5, 8))
        >>> output.attention.shape, output.member_logits.shape
        (torch.Size([2, 5]), torch.Size([2, 3, 1]))
    """

    def __init__(
        self,
        encoder: EncoderSpec = "tile_cnn",
        num_outputs: int = 1,
        num_members: int = 5,
        hidden_dims: Sequence[int] = (128, 64),
        gated: bool = False,
        attention_dim: int | None = None,
        dropout: float = 0.5,
        input_dropout: float = 0.0,
    ) -> None:
        super().__init__(encoder, num_outputs)
        if num_members < 1:
            raise ValueError(f"num_members={num_members} of an ensemble must be at least 1")
        self.num_members = num_members
        self.hidden_dims = list(hidden_dims)
        self.gated = gated
        self.attention_dim = attention_dim
        self.dropout = dropout
        self.input_dropout = input_dropout
        widths = [self.tile_encoder.embedding_dim, *self.hidden_dims]
        attention_width = attention_dim or min(128, widths[-1])
        self.hidden_layers = nn.ModuleList(MemberLinear(num_members, a, b) for a, b in pairwise(widths))
        self.tanh_layer = MemberLinear(num_members, widths[-1], attention_width)
        self.gate_layer = MemberLinear(num_members, widths[-1], attention_width) if gated else None
        self.score_layer = MemberLinear(num_members, attention_width, 1)
        self.classification_layer = MemberLinear(num_members, widths[-1], num_outputs)

    def aggregate(self, embeddings: Tensor, mask: Tensor | None = None) -> DetailedMILOutput:
        mask = full_mask(embeddings, mask)
        rows = embeddings.flatten(0, 1).expand(self.num_members, -1, -1)
        hidden = F.dropout(rows, self.input_dropout, self.training)
        for layer in self.hidden_layers:
            hidden = F.dropout(F.relu(layer(hidden)), self.dropout, self.training)
        scores = torch.tanh(self.tanh_layer(hidden))
        if self.gate_layer is not None:
            scores = scores * torch.sigmoid(self.gate_layer(hidden))
        scores = self.score_layer(scores).view(self.num_members, *mask.shape)
        attention = masked_softmax(scores, mask.expand_as(scores), dim=2)
        tiles = hidden.view(self.num_members, *mask.shape, hidden.shape[-1])
        pooled = (attention[:, :, None].to(tiles.dtype) @ tiles)[:, :, 0]
        logits = self.classification_layer(pooled).transpose(0, 1)
        return DetailedMILOutput(logits.mean(1), attention.mean(0), member_logits=logits)
