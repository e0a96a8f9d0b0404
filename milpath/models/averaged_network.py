"""Several networks of one task as one: their predictions and maps are averaged, and their spread is kept."""

from collections.abc import Sequence
from itertools import combinations
from typing import Self

import torch
from torch import Tensor, nn

from milpath.models.output import DetailedMILOutput, MILOutput
from milpath.targets.target import Target


class AveragedMILOutput(DetailedMILOutput):
    """The output of several networks.

    Attributes:
        spread: `(bags, columns)`, standard deviation (n - 1) of the predictions between the networks.
        agreement: `(bags,)`, mean rank correlation (Spearman) of the attention of all pairs of networks, in [-1, 1]; NaN for
            a bag of one tile.
    """

    spread: Tensor
    agreement: Tensor

    def __new__(
        cls,
        logits: Tensor,
        attention: Tensor,
        spread: Tensor,
        agreement: Tensor,
        class_attention: Tensor | None = None,
        contributions: Tensor | None = None,
    ) -> Self:
        output = super().__new__(cls, logits, attention, class_attention, contributions)
        output.spread, output.agreement = spread, agreement
        return output


class AveragedNetwork(nn.Module):
    """Average what several networks predict of a bag: probabilities, each at the temperature of its network, or numbers.

    The output has the logits that give these averages, so that it is used like that of one network. Attention and maps per
    class are averaged as well: each network's attention sums to 1, so that the average does and all bags have one scale.
    Contributions are averaged before any temperature and no longer sum to the logits.

    Args:
        members: The networks, with the same inputs and outputs.
        targets: The target of each, with its fitted values.
        temperatures: The temperature of each.
    """

    def __init__(self, members: Sequence[nn.Module], targets: Sequence[Target], temperatures: Sequence[float]) -> None:
        super().__init__()
        self.members = nn.ModuleList(members)
        self.targets, self.temperatures = tuple(targets), tuple(temperatures)
        require_average(self.targets[0])

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
        answers = torch.stack(
            [
                target.answers(output.logits.double(), temperature)
                for output, target, temperature in zip(outputs, self.targets, self.temperatures, strict=True)
            ]
        )
        logits = self.targets[0].logits_of(answers.mean(0))
        attention = torch.stack([output.attention.float() for output in outputs])
        maps = [_mean_map(outputs, name) for name in ("class_attention", "contributions")]
        return AveragedMILOutput(
            logits.to(outputs[0].logits.dtype), attention.mean(0), answers.std(0), _agreement(attention, mask), *maps
        )


def _mean_map(outputs: Sequence[MILOutput], name: str) -> Tensor | None:
    """Return the mean of a map over the networks; `None` if they do not have it."""
    rows = [row for output in outputs if isinstance(row := getattr(output, name, None), Tensor)]
    return torch.stack(rows).mean(0) if len(rows) == len(outputs) else None


def require_average(target: Target) -> None:
    """Refuse to average the predictions of several networks, if that is not defined for their target.

    Raises:
        ValueError: If the target has no `logits_of`.
    """
    if type(target).logits_of is not Target.logits_of:
        return
    why = "; define logits_of in its target"
    if target.name == "survival":
        why = ": the risks of different folds have different baselines and no common scale"
    raise ValueError(
        f"the predictions of several networks cannot be averaged for a {target.name} task{why}; predict with each fold"
    )


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
