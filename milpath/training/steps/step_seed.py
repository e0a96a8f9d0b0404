"""Random seeds that depend only on seed, step and rank, so that a resumed run equals the uninterrupted one."""

import hashlib
from typing import Any

import torch
from lightning.pytorch import Callback, LightningModule, Trainer


class StepSeed(Callback):
    """Seed torch before each step from (seed, step, rank).

    The state of a random number generator is lost when a process is killed; a seed computed from the step is not.
    Augmentation and dropout at step n are therefore the same whether or not the run was interrupted, and they differ
    between processes.

    Args:
        seed: The seed of the run.
    """

    def __init__(self, seed: int) -> None:
        self.seed = seed
        self._on_cpu = False

    def on_train_start(self, trainer: Trainer, pl_module: LightningModule) -> None:
        self._on_cpu = pl_module.device.type == "cpu"
        self._seed(trainer)

    def on_train_epoch_start(self, trainer: Trainer, pl_module: LightningModule) -> None:
        self._seed(trainer)

    def on_train_batch_end(self, trainer: Trainer, pl_module: LightningModule, *_: Any, **__: Any) -> None:
        # Not in on_train_batch_start: augmentation draws when the batch is moved to the device, before that hook.
        self._seed(trainer)

    def _seed(self, trainer: Trainer) -> None:
        """Seed for the next batch."""
        seed = step_seed(self.seed, trainer.fit_loop.total_batch_idx + 1, trainer.global_rank)
        if self._on_cpu:
            # torch.manual_seed also keeps a call, with its stack, for every kind of device that is not in use: memory that
            # grows with the steps, and a tenth of the time of a step of a small network.
            torch.default_generator.manual_seed(seed)
        else:
            torch.manual_seed(seed)


def step_seed(seed: int, step: int, rank: int) -> int:
    """Return a seed in [0, 2^63), unrelated between neighbouring steps and ranks.

    Example:
        >>> step_seed(0, 1, 0) != step_seed(0, 0, 1)
        True
    """
    digest = hashlib.blake2b(f"{seed},{step},{rank}".encode(), digest_size=8).digest()
    return int.from_bytes(digest, "big") >> 1
