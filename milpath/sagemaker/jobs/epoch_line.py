"""One line per epoch, from which SageMaker parses the metrics of a job."""

import sys

from lightning.pytorch import LightningModule, Trainer
from lightning.pytorch.callbacks import ProgressBar
from typing_extensions import override


class EpochLine(ProgressBar):
    """Print `epoch=3 train/loss=0.412 val/auroc=0.913` after each epoch, on rank 0 only.

    It replaces the progress bar, which cannot be redrawn in a log.
    """

    @override
    def disable(self) -> None:
        # Called on all ranks but 0, which print nothing anyway.
        pass

    @override
    def on_train_start(self, trainer: Trainer, pl_module: LightningModule) -> None:
        self._last_epoch: int | None = None

    @override
    def on_train_epoch_start(self, trainer: Trainer, pl_module: LightningModule) -> None:
        # The mean loss of an epoch is logged after the callbacks' on_train_epoch_end: print when the next epoch starts.
        self._print(trainer)
        self._last_epoch = trainer.current_epoch

    @override
    def on_train_end(self, trainer: Trainer, pl_module: LightningModule) -> None:
        self._print(trainer)

    def _print(self, trainer: Trainer) -> None:
        """Print the metrics of the finished epoch."""
        if self._last_epoch is None or not trainer.is_global_zero:
            return
        words = [f"{name}={float(value):.6g}" for name, value in sorted(trainer.callback_metrics.items())]
        sys.stdout.write(" ".join([f"epoch={self._last_epoch}", *words]) + "\n")
        sys.stdout.flush()
