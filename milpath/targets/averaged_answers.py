"""What a target says of the average of several networks that were trained for it."""

from collections.abc import Mapping, Sequence
from typing import Any, ClassVar, Self

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor


class AveragedAnswers:
    """The part of a target that averages the predictions of several networks, such as the folds of a cross-validation.

    By default the predictions themselves are averaged: a target only defines `logits_of`. One whose predictions have no
    mean, such as the risks of different baselines, defines `average_of` and `averaged`.

    Attributes:
        fitted_names: Values of `state` that are fitted on the training split, which may differ between the networks.
    """

    name: ClassVar[str]
    fitted_names: ClassVar[tuple[str, ...]] = ()

    def logits_of(self, answers: Tensor) -> Tensor:
        """Return the logits whose `answers` at temperature 1 are given, `(bags, num_outputs)`; for averages over networks.

        Args:
            answers: `(bags, columns)`, float64.

        Raises:
            ValueError: If the target does not define them.
        """
        raise ValueError(f"a {self.name} task does not define the logits of a prediction")

    def average_of(self, targets: Sequence[Any]) -> Self:
        """Return the target of the average of several networks.

        Args:
            targets: The target of each network with its fitted values, this one first.

        Raises:
            ValueError: If their predictions cannot be averaged.
        """
        if type(self).logits_of is AveragedAnswers.logits_of:
            raise ValueError(
                f"the predictions of several networks cannot be averaged for a {self.name} task; define logits_of in its "
                "target, or predict with each fold"
            )
        return self

    def averaged(
        self, targets: Sequence[Any], logits: Sequence[Tensor], temperatures: Sequence[float]
    ) -> tuple[Tensor, Tensor]:
        """Return the average of the predictions of several networks; called on the target that `average_of` returned.

        Args:
            targets: The target of each network.
            logits: Of each network, `(bags, outputs)`.
            temperatures: Of each network.

        Returns:
            Logits of the average for this target, and what each network predicts in the columns of this target,
            `(bags, networks, columns)`; both float64.
        """
        each = torch.stack(
            [target.answers(z.double(), t) for target, z, t in zip(targets, logits, temperatures, strict=True)], 1
        )
        return self.logits_of(each.mean(1)), each

    def as_average(self, target: Any, answers: NDArray[np.float64]) -> NDArray[np.float64]:
        """Return stored predictions of one network in the columns of the average, NaN where they do not say it.

        Args:
            target: The target of the network.
            answers: `(bags, its columns)`.
        """
        return answers

    def state_in_common(self, state: Mapping[str, Any]) -> dict[str, Any]:
        """Return what must be equal in the states of networks that are averaged: the options of the target."""
        return {name: value for name, value in state.items() if name not in self.fitted_names}
