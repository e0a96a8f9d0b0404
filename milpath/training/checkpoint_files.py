"""Checkpoints of the Trainer, whole under their name at every moment."""

from pathlib import Path
from typing import Any

from lightning.pytorch import LightningModule, Trainer
from lightning.pytorch.callbacks import ModelCheckpoint
from lightning.pytorch.plugins.io import TorchCheckpointIO
from typing_extensions import override

from milpath.models.checkpoint import write_checkpoint


class AtomicCheckpointIO(TorchCheckpointIO):
    """Write beside the target, flush, rename.

    Lightning's own writes to `TMPDIR`; where that is another file system, the file is copied to its place, and a kill leaves
    an empty or a half one there and nothing of the one before.
    """

    @override
    def save_checkpoint(self, checkpoint: dict[str, Any], path: str | Path, storage_options: Any | None = None) -> None:
        if storage_options is not None:
            raise TypeError("a checkpoint is a local file and takes no storage_options")
        Path(path).parent.mkdir(parents=True, exist_ok=True)
        write_checkpoint(checkpoint, Path(path))


class TimedCheckpoint(ModelCheckpoint):
    """Lightning's ModelCheckpoint, which leaves the last step of an epoch to the checkpoint after its validation.

    What is saved between the last step and the validation does not say which of the two comes next: a run that goes on from
    there takes steps twice.
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
