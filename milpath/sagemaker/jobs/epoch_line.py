"""One line an epoch, from which SageMaker reads the metrics of a job."""

import sys

from lightning.pytorch import LightningModule, Trainer
from lightning.pytorch.callbacks import ProgressBar
from typing_extensions import override


class EpochLine(ProgressBar):
    """Print `epoch=3 train/loss=0.412 val/auroc=0.913` after each epoch, from the first process alone.

    It stands where a progress bar would: a log has no line that can be written twice.
    """

    @override
    def disable(self) -> None:
        # Called for every process but the first; these print nothing anyway.
        pass

    @override
    def on_train_start(self, trainer: Trainer, pl_module: LightningModule) -> None:
        self._last_epoch: int | None = None

    @override
    def on_train_epoch_start(self, trainer: Trainer, pl_module: LightningModule) -> None:
        # The mean loss of an epoch is logged after every callback's end of epoch: print when the next one starts.
        self._print(trainer)
        self._last_epoch = trainer.current_epoch

    @override
    def on_train_end(self, trainer: Trainer, pl_module: LightningModule) -> None:
        self._print(trainer)

    def _print(self, trainer: Trainer) -> None:
        """Print the metrics of the epoch that is over."""
        if self._last_epoch is None or not trainer.is_global_zero:
            return
        words = [f"{name}={float(value):.6g}" for name, value in sorted(trainer.callback_metrics.items())]
        sys.stdout.write(" ".join([f"epoch={self._last_epoch}", *words]) + "\n")
        sys.stdout.flush()
