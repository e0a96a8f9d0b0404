"""Atomic writing of the Trainer's checkpoints, the choice of the best epoch, and when to write."""

import time
from pathlib import Path
from typing import Any

from lightning.pytorch import LightningModule, Trainer
from lightning.pytorch.callbacks import ModelCheckpoint
from lightning.pytorch.plugins.io import TorchCheckpointIO
from torch import Tensor
from typing_extensions import override

from milpath.models.checkpoint import write_checkpoint
from milpath.models.weights_digest import CARD, DIGESTS

_LOSS = "val/loss"


class AtomicCheckpointIO(TorchCheckpointIO):
    """Write to a temporary file next to the target, flush, rename.

    Lightning writes to `TMPDIR`; if that is another file system, the file is then copied, and a process killed meanwhile
    leaves an empty or partial checkpoint in place of the previous one.
    """

    @override
    def save_checkpoint(self, checkpoint: dict[str, Any], path: str | Path, storage_options: Any | None = None) -> None:
        if storage_options is not None:
            raise TypeError("checkpoints are local files; storage_options is not supported")
        Path(path).parent.mkdir(parents=True, exist_ok=True)
        # MILClassifier has already added the digests.
        write_checkpoint(checkpoint, Path(path), seal=DIGESTS not in checkpoint.get(CARD, {}))


class SparingCheckpoint(ModelCheckpoint):
    """Lightning's ModelCheckpoint without a monitor, except that epochs of a second do not each write a file.

    The last epoch is saved, and any that ends `min_seconds` after the training began or the file was written: what an
    interruption costs is bounded by time. In the many short trainings of a table, writing took a third of the time.

    Args:
        min_seconds: Time between two files.
        **options: Those of ModelCheckpoint.
    """

    def __init__(self, min_seconds: float, **options: Any) -> None:
        super().__init__(**options)
        self._min_seconds = min_seconds
        self._written = 0.0

    @property
    @override
    def state_key(self) -> str:
        return _key_of_lightning(self, super().state_key)

    @override
    def on_train_start(self, trainer: Trainer, pl_module: LightningModule) -> None:
        super().on_train_start(trainer, pl_module)
        self._written = time.monotonic()

    @override
    def on_train_epoch_end(self, trainer: Trainer, pl_module: LightningModule) -> None:
        due = time.monotonic() - self._written >= self._min_seconds
        # Processes must agree, since all of them take part in saving.
        if trainer.strategy.reduce_boolean_decision(due, all=False) or _is_last_epoch(trainer):
            super().on_train_epoch_end(trainer, pl_module)
            self._written = time.monotonic()


def _is_last_epoch(trainer: Trainer) -> bool:
    """Return whether the epoch that ends now is the last of this training."""
    steps, epochs = trainer.max_steps, trainer.max_epochs
    return (
        trainer.should_stop
        or (epochs not in (None, -1) and trainer.current_epoch + 1 >= int(epochs or 0))
        or (steps != -1 and trainer.global_step >= steps)
    )


class BestCheckpoint(ModelCheckpoint):
    """Lightning's ModelCheckpoint of one best epoch; of epochs with the same monitored value, that with the lowest loss.

    On a small validation split a metric of ranks soon reaches its maximum and stays there, while the loss still tells the
    epochs apart. Losses are those of the whole validation split, so every process decides alike. After a resume from a
    checkpoint of an earlier version, which does not hold the loss of its best epoch, that epoch wins ties.

    Attributes:
        best_loss: `val/loss` of the best epoch; `None` if it is unknown.
    """

    best_loss: float | None = None

    @property
    @override
    def state_key(self) -> str:
        return _key_of_lightning(self, super().state_key)

    @override
    def check_monitor_top_k(self, trainer: Trainer, current: Tensor | None = None) -> bool:
        if super().check_monitor_top_k(trainer, current):
            return True
        if current is None or self.save_top_k != 1:
            return False
        loss = _loss_of(trainer)
        lower = loss is not None and self.best_loss is not None and loss < self.best_loss
        tied = bool(current == self.best_k_models[self.kth_best_model_path])
        decided: bool = trainer.strategy.reduce_boolean_decision(tied and lower)
        return decided

    @override
    def _update_best_and_save(self, current: Tensor, trainer: Trainer, monitor_candidates: dict[str, Tensor]) -> None:
        # Before the checkpoint is written, which holds the state of this callback.
        self.best_loss = _loss_of(trainer)
        super()._update_best_and_save(current, trainer, monitor_candidates)

    @override
    def state_dict(self) -> dict[str, Any]:
        return super().state_dict() | {"best_loss": self.best_loss}

    @override
    def load_state_dict(self, state_dict: dict[str, Any]) -> None:
        super().load_state_dict(state_dict)
        self.best_loss = state_dict.get("best_loss")


class TimedCheckpoint(ModelCheckpoint):
    """Lightning's ModelCheckpoint, except that it never saves between a step and the validation that follows it.

    Such a checkpoint does not record that validation comes next, and a run resumed from it repeats steps.
    """

    @property
    @override
    def state_key(self) -> str:
        return _key_of_lightning(self, super().state_key)

    @override
    def on_train_batch_end(
        self, trainer: Trainer, pl_module: LightningModule, outputs: Any, batch: Any, batch_idx: int
    ) -> None:
        if not (trainer.world_size == 1 and self._is_early()) and not validation_follows(trainer):
            super().on_train_batch_end(trainer, pl_module, outputs, batch, batch_idx)

    def _is_early(self) -> bool:
        """Return whether a step is not to be saved for its number and not yet for the time; Lightning asks more first."""
        interval, last = self._train_time_interval, self._last_time_checked
        if self._every_n_train_steps >= 1:
            return False
        return interval is None or last is None or time.monotonic() - last < interval.total_seconds()

    @override
    def on_train_epoch_end(self, trainer: Trainer, pl_module: LightningModule) -> None:
        # Lightning copies all metrics before it finds that nothing is to be saved.
        if self._every_n_epochs >= 1 or self.save_last:
            super().on_train_epoch_end(trainer, pl_module)


def validation_follows(trainer: Trainer) -> bool:
    """Return whether a training step was the last of its epoch, or the last before a validation within it.

    A checkpoint that is written in its `on_train_batch_end` says that the step is done, and not that validation comes next.
    """
    fetcher = trainer.fit_loop._data_fetcher
    return trainer.is_last_batch or (fetcher is not None and trainer.fit_loop.epoch_loop._should_check_val_fx(fetcher))


def _key_of_lightning(callback: ModelCheckpoint, key: str) -> str:
    """Return the key of a callback's state with the name of Lightning's class, under which checkpoints hold it."""
    return key.replace(type(callback).__qualname__, ModelCheckpoint.__qualname__, 1)


def _loss_of(trainer: Trainer) -> float | None:
    """Return the loss of the validation split; `None` if the epoch logged none."""
    loss = trainer.callback_metrics.get(_LOSS)
    return None if loss is None else float(loss)
