"""Callback that keeps a moving average of the weights, which validation, checkpoints and results use."""

import math
from typing import Any

import torch
from lightning.pytorch import LightningModule, Trainer
from lightning.pytorch.callbacks import WeightAveraging
from lightning.pytorch.utilities.types import STEP_OUTPUT
from torch import Tensor
from typing_extensions import override


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
        super().__init__(multi_avg_fn=self._add_step)
        self.window = window
        self._share = 1.0

    @override
    def on_train_batch_end(
        self, trainer: Trainer, pl_module: LightningModule, outputs: STEP_OUTPUT, batch: Any, batch_idx: int
    ) -> None:
        steps = max(1.0, float(trainer.num_training_batches) / trainer.accumulate_grad_batches)
        self._share = 1 - math.exp(-1 / (self.window * steps))
        super().on_train_batch_end(trainer, pl_module, outputs, batch, batch_idx)

    def _add_step(self, averages: list[Tensor], weights: list[Tensor], num_averaged: Tensor | int) -> None:
        """Add a step to the averages of all parameters and buffers of one type; torch takes the first step as it is."""
        if averages[0].is_floating_point():
            torch._foreach_lerp_(averages, weights, max(self._share, 1 / (int(num_averaged) + 1)))
        else:  # counters
            torch._foreach_copy_(averages, weights)
