"""What a step of the network costs at least, counted from its operators."""

from collections.abc import Callable

import torch
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_iter
from torch.utils.flop_counter import FlopCounterMode


class ByteCounter(TorchDispatchMode):
    """Bytes that operators read and write: each reads its arguments and writes its results once; a view costs nothing."""

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
