"""Progress of a training: a bar on a terminal, one line per epoch in a log."""

import sys
import time
from typing import Any

from lightning.pytorch import Callback, LightningModule, Trainer
from lightning.pytorch.callbacks import ProgressBar, RichProgressBar
from rich.console import Console
from typing_extensions import override

from milpath.drawing.progress import ProgressLines, duration


class EpochLines(ProgressBar):
    """Print one line after each epoch, on rank 0 only; it replaces the progress bar, which cannot be redrawn in a log.

    Args:
        monitor: Metric to print after the training loss; None for the loss only.
    """

    def __init__(self, monitor: str | None = None) -> None:
        super().__init__()
        self.monitor = monitor
        self._epoch: int | None = None
        self._first = 0
        self._started = self._epoch_started = 0.0
        self._batches = ProgressLines("batches predicted")

    @override
    def disable(self) -> None:
        # Called on all ranks but 0, which print nothing anyway.
        pass

    @override
    def on_train_start(self, trainer: Trainer, pl_module: LightningModule) -> None:
        self._epoch, self._first = None, trainer.current_epoch
        self._started = time.monotonic()

    @override
    def on_train_epoch_start(self, trainer: Trainer, pl_module: LightningModule) -> None:
        # The mean loss of an epoch is logged after the callbacks' on_train_epoch_end: print when the next epoch starts.
        self._print(trainer)
        self._epoch, self._epoch_started = trainer.current_epoch, time.monotonic()

    @override
    def on_train_end(self, trainer: Trainer, pl_module: LightningModule) -> None:
        self._print(trainer)

    @override
    def on_predict_start(self, trainer: Trainer, pl_module: LightningModule) -> None:
        self._batches = ProgressLines("batches predicted")

    @override
    def on_predict_batch_end(
        self,
        trainer: Trainer,
        pl_module: LightningModule,
        outputs: Any,
        batch: Any,
        batch_idx: int,
        dataloader_idx: int = 0,
    ) -> None:
        total = trainer.num_predict_batches[dataloader_idx]
        if trainer.is_global_zero:
            self._batches.show(batch_idx + 1, int(total) if total != float("inf") else None)

    def line(self, trainer: Trainer, epoch: int) -> str:
        """Return the line of a finished epoch.

        Args:
            trainer: With the metrics of the epoch.
            epoch: 0-based.
        """
        metrics = trainer.callback_metrics
        found = [name for name in ("train/loss", self.monitor) if name is not None and name in metrics]
        values = [f"{name} {float(metrics[name]):.4f}" for name in found]
        now = time.monotonic()
        values.append(duration(now - self._epoch_started) if now - self._epoch_started >= 1 else "under 1 s")
        total = trainer.max_epochs if trainer.max_epochs is not None and trainer.max_epochs > 0 else None
        if total is None:
            return f"epoch {epoch + 1}: {', '.join(values)}"
        per_epoch = (now - self._started) / (epoch + 1 - self._first)
        if trainer.should_stop or epoch + 1 >= total:
            left = ""
        else:
            left = f", at most {duration(per_epoch * (total - epoch - 1))} left"
        return f"epoch {epoch + 1} of {total}: {', '.join(values)}{left}"

    def _print(self, trainer: Trainer) -> None:
        """Print the line of the finished epoch."""
        if self._epoch is None or not trainer.is_global_zero:
            return
        sys.stdout.write(self.line(trainer, self._epoch) + "\n")
        sys.stdout.flush()
        self._epoch = None


class TrainingLines(Callback):
    """Write now and then how far one of many trainings is, which has neither a bar nor a line per epoch.

    Args:
        name: The training in words.
    """

    def __init__(self, name: str) -> None:
        self.name = name
        self._first = 0
        self._total: int | None = None
        self._lines = ProgressLines(f"{name}, steps")

    @override
    def on_train_start(self, trainer: Trainer, pl_module: LightningModule) -> None:
        self._first = trainer.global_step
        total = trainer.estimated_stepping_batches
        self._total = None if total == float("inf") else int(total) - self._first
        self._lines = ProgressLines(f"{self.name}, steps")

    @override
    def on_train_batch_end(
        self, trainer: Trainer, pl_module: LightningModule, outputs: Any, batch: Any, batch_idx: int
    ) -> None:
        if trainer.is_global_zero:
            self._lines.show(trainer.global_step - self._first, self._total)


def epoch_progress(monitor: str | None = None) -> ProgressBar:
    """Return a progress bar on a terminal or in a notebook, and `EpochLines` in a log.

    Args:
        monitor: Metric shown in a log.
    """
    console = Console()
    return RichProgressBar() if console.is_terminal or console.is_jupyter else EpochLines(monitor)
