"""The average of several networks with several targets: each target averages as it does by itself."""

from __future__ import annotations

import copy
from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import Any, Self

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from milpath.targets.decision import Decision
from milpath.targets.registry import target_named
from milpath.targets.several.member import Member
from milpath.targets.several.several_columns import SeveralColumns
from milpath.targets.target import Array


class AveragedMembers(SeveralColumns):
    """The part of `Several` on averages of several networks, such as the folds of a cross-validation."""

    def average_of(self, targets: Sequence[Any]) -> Self:
        """Return the target of the average; thresholds, temperatures and deferrals are to be chosen for it anew.

        Raises:
            ValueError: If the predictions of one of the targets cannot be averaged, with its name.
        """
        members = []
        for place, member in enumerate(self.members):
            try:
                target = member.target.average_of([each.members[place].target for each in targets])
            except ValueError as error:
                raise ValueError(f"target {member.name!r}: {error}") from None
            members.append(replace(member, target=target, decision=Decision(defer_all=member.decision.defer_all)))
        return self._with(members)

    def averaged(
        self, targets: Sequence[Any], logits: Sequence[Tensor], temperatures: Sequence[float]
    ) -> tuple[Tensor, Tensor]:
        parts = [z.split(target._num_outputs, 1) for target, z in zip(targets, logits, strict=True)]
        averages = []
        for place, member in enumerate(self.members):
            own: list[Member] = [target.members[place] for target in targets]
            averages.append(
                member.target.averaged(
                    [each.target for each in own],
                    [part[place] for part in parts],
                    [each.decision.temperature for each in own],
                )
            )
        return torch.cat([z for z, _ in averages], 1), torch.cat([each for _, each in averages], 2)

    def as_average(self, target: Any, answers: NDArray[np.float64]) -> NDArray[np.float64]:
        parts = zip(self.members, target.members, target._answers(answers), strict=True)
        return np.concatenate([member.target.as_average(own.target, part) for member, own, part in parts], axis=1)

    def state_in_common(self, state: Mapping[str, Any]) -> dict[str, Any]:
        fields = ("name", "task", "columns", "class_names", "weight")
        common: dict[str, Any] = {}
        for content in state["targets"]:
            of_target = target_named(content["task"]).state_in_common(content["state"])
            common |= {f"{content['name']}.{field}": content[field] for field in fields}
            common |= {f"{content['name']}.{name}": value for name, value in of_target.items()}
        return common

    def parts_of(self, labels: Array, answers: Array) -> list[tuple[Member, Array, Array]]:
        """Return each target with its columns of labels and predictions."""
        return list(zip(self.members, self._labels(labels), self._answers(answers), strict=True))

    def _with(self, members: Sequence[Member]) -> Self:
        """Return the same target with other members."""
        changed = copy.copy(self)
        changed.members = tuple(members)
        return changed
