"""Linear layers of several networks at once."""

import torch
from torch import Tensor, nn


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
