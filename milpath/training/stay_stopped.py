"""A run that had stopped early does not train on when it is started again."""

import logging

from lightning.pytorch import Callback, LightningModule, Trainer
from typing_extensions import override

_log = logging.getLogger(__name__)


class StayStopped(Callback):
    """Stop before the first step if the checkpoint says that early stopping had ended the run.

    Lightning restores how long the metric has not improved, but not that this was long enough: without this a run that is
    interrupted between its last epoch and its results trains one epoch more than one that is not.
    """

    @override
    def on_train_start(self, trainer: Trainer, pl_module: LightningModule) -> None:
        for callback in trainer.early_stopping_callbacks:
            if callback.wait_count >= callback.patience:
                trainer.should_stop = True
                if trainer.is_global_zero:
                    _log.info(
                        "early stopping had ended this run: %s did not improve for %d epochs; to train on, add "
                        "callbacks.early_stopping=null",
                        callback.monitor,
                        callback.wait_count,
                    )
