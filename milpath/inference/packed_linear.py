"""Linear layers with a second copy of their weights in oneDNN layout, which is faster on a CPU."""

import torch
import torch.nn.functional as F
from torch import Tensor, nn

# Multiplications per call from which the layout pays for converting the input and the output.
_WORTH_IT = 1 << 23


class PackedLinear(nn.Linear):
    """A linear layer that also holds its weights in oneDNN layout.

    The result equals that of the layer up to rounding. The oneDNN copy is used without gradients, on a CPU, in float32
    and for large enough inputs; it doubles the memory of the weights and is not part of the state dict.

    Args:
        linear: The layer; its parameters are shared.
    """

    def __init__(self, linear: nn.Linear) -> None:
        super().__init__(linear.in_features, linear.out_features, linear.bias is not None, device="meta")
        self.weight, self.bias = linear.weight, linear.bias
        self.train(linear.training)
        with torch.no_grad():
            self._packed = linear.weight.to_mkldnn(), None if linear.bias is None else linear.bias.to_mkldnn()

    def forward(self, input: Tensor) -> Tensor:
        """Return `(..., out_features)` of `(..., in_features)`."""
        rows = input.numel() // self.in_features
        fits = input.device.type == "cpu" and input.dtype == torch.float32 and not torch.is_autocast_enabled("cpu")
        if torch.is_grad_enabled() or not fits or rows * self.weight.numel() < _WORTH_IT:
            return super().forward(input)
        return F.linear(input.to_mkldnn(), *self._packed).to_dense()


def pack_linears(network: nn.Module) -> nn.Module:
    """Replace the linear layers of a network used only for inference; return the network.

    Only the library for the multiplication changes, from MKL to oneDNN: a large layer took half the time on the
    processor where it was measured (AMD EPYC).

    Args:
        network: Its weights must not change afterwards. It stays unchanged if it is not on a CPU or PyTorch has no
            oneDNN.

    Example:
        >>> network = pack_linears(nn.Sequential(nn.Linear(512, 64), nn.ReLU()))
        >>> network[0]
        PackedLinear(in_features=512, out_features=64, bias=True)
    """
    if not torch.backends.mkldnn.is_available():
        return network
    for parent in list(network.modules()):
        for name, layer in list(parent.named_children()):
            # Subclasses of nn.Linear may compute something else.
            if type(layer) is nn.Linear and layer.weight.device.type == "cpu" and layer.weight.dtype == torch.float32:
                setattr(parent, name, PackedLinear(layer))
    return network
