"""One line per epoch, from which SageMaker parses the metrics of a job."""

from typing import Any

from lightning.pytorch import Trainer
from typing_extensions import override

from milpath.training.callbacks.epoch_progress import EpochLines


class EpochLine(EpochLines):
    """Print `epoch=3 train/loss=0.412 val/auroc=0.913` after each epoch, on rank 0 only."""

    def __init__(self, **_: Any) -> None:  # the arguments of the entry that it replaces
        super().__init__()

    @override
    def line(self, trainer: Trainer, epoch: int) -> str:
        words = [f"{name}={float(value):.6g}" for name, value in sorted(trainer.callback_metrics.items())]
        return " ".join([f"epoch={epoch}", *words])
