"""The output type of all networks."""

from collections.abc import Sequence
from typing import NamedTuple, Self

import torch
import torch.nn.functional as F
from torch import Tensor


class MILOutput(NamedTuple):
    """The output of a network for a batch of bags; both fields are always set.

    Attributes:
        logits: `(bags, num_outputs)`, before any sigmoid or softmax.
        attention: `(bags, tiles)`, the normalised weight of each tile: >= 0, 0 on padding, sums to 1 over each bag.
    """

    logits: Tensor
    attention: Tensor


class DetailedMILOutput(MILOutput):
    """An output with more about each tile than one weight; it unpacks to logits and attention like any other.

    Args:
        logits: `(bags, num_outputs)`.
        attention: `(bags, tiles)`.
        class_attention: `(bags, classes, tiles)`, one normalised weight per class: >= 0, 0 on padding, sums to 1 over the
            tiles.
        contributions: `(bags, num_outputs, tiles)`, what each tile adds to each logit: any sign, 0 on padding, sums to the
            logits over the tiles.
        branch_logits: `(bags, branches, num_outputs)` of the parts of a network that an auxiliary loss trains with the label
            of the bag: attention branches or pseudo-bags.
        branch_attention: `(bags, branches, tiles)`, the weights of each branch, which sum to 1 over the tiles; a branch
            without tiles has weights of 0.
        target_attention: `(bags, targets, tiles)`, the normalised weights of each of several targets.
        member_logits: `(bags, members, num_outputs)` of each member of an ensemble, whose mean the logits are; in training
            each member has a loss of its own.

    Example:
        >>> import torch
        >>> output = DetailedMILOutput(torch.zeros(1, 2), torch.ones(1, 1), class_attention=torch.ones(1, 2, 1))
        >>> logits, attention = output
        >>> output.class_attention.shape, output.contributions
        (torch.Size([1, 2, 1]), None)
    """

    class_attention: Tensor | None
    contributions: Tensor | None
    branch_logits: Tensor | None
    branch_attention: Tensor | None
    target_attention: Tensor | None
    member_logits: Tensor | None

    def __new__(
        cls,
        logits: Tensor,
        attention: Tensor,
        class_attention: Tensor | None = None,
        contributions: Tensor | None = None,
        branch_logits: Tensor | None = None,
        branch_attention: Tensor | None = None,
        target_attention: Tensor | None = None,
        member_logits: Tensor | None = None,
    ) -> Self:
        output = super().__new__(cls, logits, attention)
        output.class_attention = class_attention
        output.contributions = contributions
        output.branch_logits = branch_logits
        output.branch_attention = branch_attention
        output.target_attention = target_attention
        output.member_logits = member_logits
        return output


# Fields of a detailed output whose last dimension is the tiles.
_OF_TILES = ("attention", "class_attention", "contributions", "branch_attention", "target_attention")
_DETAILS = (
    "class_attention",
    "contributions",
    "branch_logits",
    "branch_attention",
    "target_attention",
    "member_logits",
)


def joined(outputs: Sequence[MILOutput], num_tiles: int) -> MILOutput:
    """Return the output of a batch from those of its bags, 0 on padding.

    Args:
        outputs: One output per bag, each with the tiles of its bag; all with the same fields.
        num_tiles: Number of tiles of the padded batch.

    Example:
        >>> bags = [MILOutput(torch.zeros(1, 1), torch.full((1, n), 1 / n)) for n in (1, 2)]
        >>> joined(bags, 2).attention
        tensor([[1.0000, 0.0000],
                [0.5000, 0.5000]])
    """

    def field(name: str) -> Tensor:
        values = [getattr(output, name) for output in outputs]
        if name in _OF_TILES:
            values = [F.pad(value, (0, num_tiles - value.shape[-1])) for value in values]
        return torch.cat(values)

    if not isinstance(outputs[0], DetailedMILOutput):
        return MILOutput(field("logits"), field("attention"))
    details = {name: field(name) for name in _DETAILS if getattr(outputs[0], name) is not None}
    return DetailedMILOutput(field("logits"), field("attention"), **details)
