"""Callback that keeps a run stopped if early stopping had ended it before it was resumed."""

import logging

from lightning.pytorch import Callback, LightningModule, Trainer
from typing_extensions import override

_log = logging.getLogger(__name__)


class StayStopped(Callback):
    """Stop before the first step if early stopping had already ended the run.

    Lightning restores the wait count of early stopping but does not compare it with the patience on resume: without this
    callback, a run interrupted between its last epoch and its results would train one more epoch.
    """

    @override
    def on_train_start(self, trainer: Trainer, pl_module: LightningModule) -> None:
        for callback in trainer.early_stopping_callbacks:
            # A patience of 0 ends a run after the first epoch that is no better, not before it.
            if callback.wait_count >= max(1, callback.patience):
                trainer.should_stop = True
                if trainer.is_global_zero:
                    _log.info(
                        "early stopping already ended this run: %s did not improve for %d epochs; to continue training, add "
                        "callbacks.early_stopping=null",
                        callback.monitor,
                        callback.wait_count,
                    )
