"""Callbacks for checks: slow steps, so that a short training can be interrupted in the middle, and a process that fails."""

import time

from lightning.pytorch.callbacks import Callback


class SlowSteps(Callback):
    def __init__(self, seconds: float) -> None:
        self.seconds = seconds

    def on_train_batch_end(self, trainer, pl_module, outputs, batch, batch_idx):
        time.sleep(self.seconds)


class FailsOnRank(Callback):
    def __init__(self, rank: int) -> None:
        self.rank = rank

    def on_train_epoch_start(self, trainer, pl_module):
        if trainer.current_epoch == 1 and trainer.global_rank == self.rank:
            raise ValueError("this process fails")
