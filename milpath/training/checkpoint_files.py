"""Atomic writing of the Trainer's checkpoints, and timed checkpoints."""

from pathlib import Path
from typing import Any

from lightning.pytorch import LightningModule, Trainer
from lightning.pytorch.callbacks import ModelCheckpoint
from lightning.pytorch.plugins.io import TorchCheckpointIO
from typing_extensions import override

from milpath.models.checkpoint import write_checkpoint


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
        write_checkpoint(checkpoint, Path(path))


class TimedCheckpoint(ModelCheckpoint):
    """Lightning's ModelCheckpoint, except that it never saves between the last step of an epoch and its validation.

    Such a checkpoint does not record that validation comes next, and a run resumed from it repeats steps.
    """

    @property
    @override
    def state_key(self) -> str:
        return super().state_key.replace(type(self).__qualname__, ModelCheckpoint.__qualname__, 1)

    @override
    def on_train_batch_end(
        self, trainer: Trainer, pl_module: LightningModule, outputs: Any, batch: Any, batch_idx: int
    ) -> None:
        if not trainer.is_last_batch:
            super().on_train_batch_end(trainer, pl_module, outputs, batch, batch_idx)
