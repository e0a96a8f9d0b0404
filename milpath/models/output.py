"""The output type of all networks."""

from typing import NamedTuple

from torch import Tensor


class MILOutput(NamedTuple):
    """The output of a network for a batch of bags; both fields are always set.

    Attributes:
        logits: `(bags, num_outputs)`, before any sigmoid or softmax.
        attention: `(bags, tiles)`, the normalised weight of each tile: >= 0, 0 on padding, sums to 1 over each bag.
    """

    logits: Tensor
    attention: Tensor
