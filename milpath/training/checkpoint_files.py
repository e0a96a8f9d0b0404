"""Checkpoints of the Trainer, whole under their name at every moment."""

from pathlib import Path
from typing import Any

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
