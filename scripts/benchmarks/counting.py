"""Lower bound on the cost of a step, counted from the operators of the network."""

from collections.abc import Callable

import torch
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_iter
from torch.utils.flop_counter import FlopCounterMode


class ByteCounter(TorchDispatchMode):
    """Count bytes read and written: each operator reads its arguments and writes its results once; views are free."""

    def __init__(self) -> None:
        super().__init__()
        self.num_bytes = 0

    def __torch_dispatch__(self, function, types, arguments=(), keywords=None):
        result = function(*arguments, **(keywords or {}))
        if not function.is_view:
            tensors = [value for value in tree_iter((arguments, keywords, result)) if isinstance(value, torch.Tensor)]
            self.num_bytes += sum(tensor.numel() * tensor.element_size() for tensor in tensors)
        return result


def count(step: Callable[[], object]) -> tuple[int, int]:
    """Return FLOP and bytes of a step."""
    with FlopCounterMode(display=False) as flop, ByteCounter() as moved:
        step()
    return flop.get_total_flops(), moved.num_bytes
