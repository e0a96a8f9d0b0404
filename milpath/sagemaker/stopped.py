"""A run that had stopped early when its machine was lost does not train on when it is started again."""

from lightning.pytorch import LightningModule, Trainer
from lightning.pytorch.callbacks import Callback, EarlyStopping
from typing_extensions import override


class StayStopped(Callback):
    """Stop before the first step if the checkpoint says that early stopping had ended the run.

    Lightning restores how long the metric has not improved, but not that this was long enough: without this a run that is
    interrupted between its last epoch and its results trains one epoch more than one that is not.
    """

    @override
    def on_train_start(self, trainer: Trainer, pl_module: LightningModule) -> None:
        for callback in trainer.callbacks:  # type: ignore[attr-defined]
            if isinstance(callback, EarlyStopping) and callback.wait_count >= callback.patience:
                trainer.should_stop = True
