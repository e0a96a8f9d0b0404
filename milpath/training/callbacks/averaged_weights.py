"""Callback that keeps a moving average of the weights, which validation, checkpoints and results use."""

import math
from collections.abc import Mapping
from typing import Any

import torch
from lightning.pytorch import LightningModule, Trainer
from lightning.pytorch.callbacks import WeightAveraging
from lightning.pytorch.utilities.types import STEP_OUTPUT
from torch.nn import Module
from torch.optim.swa_utils import AveragedModel
from typing_extensions import override

# A mapping of parameters or buffers and a name in it: what a module holds there may be replaced.
_Slots = list[tuple[Mapping[str, Any], str]]


class AveragedWeights(WeightAveraging):
    """Average the weights exponentially over the last epochs.

    The average after step n is `(1 - c) * average + c * weights` with `c = max(1 - exp(-1 / (window * steps per epoch)),
    1 / n)`: the plain mean of all steps until the window is full, then the moving average. The last steps of a small data
    set with a constant learning rate move the weights at random; their average does not hang on where training ends.

    Training goes on with its own weights. Validation, `best.ckpt`, `last.ckpt` and the results have the average; a
    checkpoint also holds the weights of training, so that a resumed run is bit-identical to an uninterrupted one.

    Args:
        window: Epochs over which the average reaches back (its time constant), greater than 0; half of it comes from the
            last 0.7 windows.

    Raises:
        ValueError: If the window is not finite and greater than 0.

    References:
        Polyak, Juditsky. Acceleration of stochastic approximation by averaging. SIAM Journal on Control and Optimization
        30(4), 1992. Morales-Brotons, Vogels, Hendrikx. Exponential moving average of weights in deep learning: dynamics and
        benefits. TMLR 2024.
    """

    def __init__(self, window: float = 2.0) -> None:
        if not (math.isfinite(window) and window > 0):
            raise ValueError(
                f"window={window} of averaged weights must be a number of epochs greater than 0, such as 2"
            )
        super().__init__()
        self.window = window
        self._slots: tuple[AveragedModel, LightningModule, list[tuple[_Slots, _Slots]]] | None = None

    @override
    def on_train_batch_end(
        self, trainer: Trainer, pl_module: LightningModule, outputs: STEP_OUTPUT, batch: Any, batch_idx: int
    ) -> None:
        step = trainer.global_step
        if step <= self._latest_update_step or not self.should_update(step_idx=step - 1):
            return
        steps = max(1.0, float(trainer.num_training_batches) / trainer.accumulate_grad_batches)
        self._add_step(pl_module, 1 - math.exp(-1 / (self.window * steps)))
        self._latest_update_step = step

    @override
    def teardown(self, trainer: Trainer, pl_module: LightningModule, stage: str) -> None:
        self._slots = None
        super().teardown(trainer, pl_module, stage)

    def _add_step(self, module: LightningModule, share: float) -> None:
        """Add a step to the averages; the first step is taken as it is, and counters always are.

        torch's `AveragedModel.update_parameters` walks through all modules in every step, which takes longer than the step
        of a small network.
        """
        average = self._average_model
        assert average is not None
        if self._slots is None or self._slots[0] is not average or self._slots[1] is not module:
            self._slots = (average, module, _pairs_of_slots(average.module, module))
        count = int(average.n_averaged)
        for of_averages, of_weights in self._slots[2]:
            averages = [owner[name] for owner, name in of_averages]
            weights = [owner[name] for owner, name in of_weights]
            with torch.no_grad():
                if count and averages[0].is_floating_point():
                    torch._foreach_lerp_(averages, weights, max(share, 1 / (count + 1)))
                else:
                    torch._foreach_copy_(averages, weights)
        average.n_averaged.add_(1)  # `+=` would also register the buffer anew, which takes longer than the addition


def _pairs_of_slots(average: Module, module: Module) -> list[tuple[_Slots, _Slots]]:
    """Return where the averages and the weights are: parameters and buffers, those of one type and device together."""
    groups: dict[tuple[torch.dtype, torch.device], tuple[_Slots, _Slots]] = {}
    for ours, theirs in zip(_slots_of(average), _slots_of(module), strict=True):
        kept = ours[0][ours[1]]
        pair = groups.setdefault((kept.dtype, kept.device), ([], []))
        pair[0].append(ours)
        pair[1].append(theirs)
    return list(groups.values())


def _slots_of(module: Module) -> _Slots:
    """Return each parameter and buffer as the mapping that holds it and its name there, a shared one once."""
    slots: dict[int, tuple[Mapping[str, Any], str]] = {}
    for part in module.modules():
        for owner in (part._parameters, part._buffers):
            for name, value in owner.items():
                if value is not None:
                    slots.setdefault(id(value), (owner, name))
    return list(slots.values())
