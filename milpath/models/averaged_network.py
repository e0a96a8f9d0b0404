"""Several networks of one task as one: their predictions and maps are averaged, and their spread is kept."""

from collections.abc import Sequence
from itertools import combinations
from typing import Self, TypedDict

import torch
from torch import Tensor, nn

from milpath.models.output import DetailedMILOutput, MILOutput
from milpath.targets.target import Target


class AveragedMILOutput(DetailedMILOutput):
    """The output of several networks.

    Attributes:
        each: `(bags, networks, columns)`, what each network predicts, in the columns of the target of the average.
        agreement: `(bags,)`, mean rank correlation (Spearman) of the attention of all pairs of networks, in [-1, 1]; NaN for
            a bag of one tile.
    """

    each: Tensor
    agreement: Tensor

    def __new__(
        cls,
        logits: Tensor,
        attention: Tensor,
        each: Tensor,
        agreement: Tensor,
        class_attention: Tensor | None = None,
        contributions: Tensor | None = None,
        target_attention: Tensor | None = None,
    ) -> Self:
        output = super().__new__(
            cls, logits, attention, class_attention, contributions, target_attention=target_attention
        )
        output.each, output.agreement = each, agreement
        return output

    @property
    def spread(self) -> Tensor:
        """`(bags, columns)`, standard deviation (n - 1) of the predictions between the networks."""
        return self.each.std(1)


class OfNetworks(TypedDict):
    """What an average says of its networks, on the CPU; `None` of one network."""

    each: Tensor | None
    agreement: Tensor | None


def of_networks(output: MILOutput) -> OfNetworks:
    """Return the predictions of each network of an average, float64, and how far their attention agrees."""
    if not isinstance(output, AveragedMILOutput):
        return {"each": None, "agreement": None}
    return {"each": output.each.double().cpu(), "agreement": output.agreement.double().cpu()}


class AveragedNetwork(nn.Module):
    """Average what several networks predict of a bag: probabilities, numbers or survival curves.

    Probabilities are averaged each at the temperature of its network. The output has the logits that give these averages for
    `target`, so that it is used like that of one network. Attention and maps per class are averaged as well: each network's
    attention sums to 1, so that the average does and all bags have one scale. Contributions are averaged before any
    temperature and no longer sum to the logits. Maps that the networks have in different numbers, one per interval of time,
    are left out.

    Args:
        members: The networks, with the same inputs.
        targets: The target of each, with its fitted values.
        temperatures: The temperature of each.

    Raises:
        ValueError: If predictions for this target cannot be averaged.
    """

    def __init__(self, members: Sequence[nn.Module], targets: Sequence[Target], temperatures: Sequence[float]) -> None:
        super().__init__()
        self.members = nn.ModuleList(members)
        self.targets, self.temperatures = tuple(targets), tuple(temperatures)
        self.target = self.targets[0].average_of(self.targets)

    @property
    def tile_encoder(self) -> nn.Module:
        """The encoder of the first network, which says what all of them take."""
        encoder: nn.Module = getattr(self.members[0], "tile_encoder", self.members[0])
        return encoder

    def forward(self, tiles: Tensor, mask: Tensor | None = None) -> AveragedMILOutput:
        """Return the averages of a batch of bags; arguments as in `MILNetwork.forward`."""
        return self.average([member(tiles, mask) for member in self.members], mask)

    def average(self, outputs: Sequence[MILOutput], mask: Tensor | None = None) -> AveragedMILOutput:
        """Return the averages of the outputs of all networks for a batch of bags."""
        logits, each = self.target.averaged(self.targets, [output.logits for output in outputs], self.temperatures)
        attention = torch.stack([output.attention.float() for output in outputs])
        maps = [_mean_map(outputs, name) for name in ("class_attention", "contributions", "target_attention")]
        return AveragedMILOutput(
            logits.to(outputs[0].logits.dtype), attention.mean(0), each, _agreement(attention, mask), *maps
        )


def _mean_map(outputs: Sequence[MILOutput], name: str) -> Tensor | None:
    """Return the mean of a map over the networks; `None` if they do not all have the same."""
    rows = [row for output in outputs if isinstance(row := getattr(output, name, None), Tensor)]
    same = len(rows) == len(outputs) and len({row.shape for row in rows}) == 1
    return torch.stack(rows).mean(0) if same else None


def _agreement(attention: Tensor, mask: Tensor | None) -> Tensor:
    """Return the mean rank correlation of pairs, `(bags,)`, of `(networks, bags, tiles)`."""
    rows = []
    for bag in range(attention.shape[1]):
        weights = attention[:, bag] if mask is None else attention[:, bag, mask[bag]]
        ranks = torch.stack([_ranks(row) for row in weights])
        ranks = ranks - ranks.mean(1, keepdim=True)
        lengths = ranks.norm(dim=1)
        pairs = [ranks[a] @ ranks[b] / (lengths[a] * lengths[b]) for a, b in combinations(range(len(ranks)), 2)]
        rows.append(torch.stack(pairs).mean())
    return torch.stack(rows)


def _ranks(values: Tensor) -> Tensor:
    """Return the rank of each value, the mean rank of equal ones."""
    _, place, counts = torch.unique(values, sorted=True, return_inverse=True, return_counts=True)
    ranks: Tensor = (counts.cumsum(0).double() - (counts.double() - 1) / 2)[place]
    return ranks
