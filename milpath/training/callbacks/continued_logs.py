"""Callback by which the logs of a run that was killed and resumed are those of one that was not."""

from typing import Any

from lightning.pytorch import Callback, LightningModule, Trainer
from lightning.pytorch.loggers import Logger, TensorBoardLogger
from typing_extensions import override

from milpath.training.csv_log import CSVLog


class ContinuedLogs(Callback):
    """Let `metrics.csv` and TensorBoard hold every step of a run once, however often it is killed and resumed.

    Before the first step, the steps that a killed run did after its checkpoint are removed: they are trained again. Before a
    checkpoint is written, what was logged until then is: a resumed run does not log it again, and a learning rate, for
    example, would otherwise wait in memory for the end of its epoch. MLflow and W&B begin another run of the same name
    instead, so that theirs need nothing.
    """

    @override
    def on_train_start(self, trainer: Trainer, pl_module: LightningModule) -> None:
        if trainer.is_global_zero:
            for logger in trainer.loggers:
                continue_from(logger, trainer.global_step)

    @override
    def on_save_checkpoint(self, trainer: Trainer, pl_module: LightningModule, checkpoint: dict[str, Any]) -> None:
        if trainer.is_global_zero:
            for logger in trainer.loggers:
                write_out(logger)


def continue_from(logger: Logger, step: int) -> None:
    """Remove steps from `step` on, counted from 0, from a log that an earlier process wrote."""
    if isinstance(logger, CSVLog):
        logger.continue_from(step)
    elif isinstance(logger, TensorBoardLogger) and step:
        from tensorboard.compat.proto.event_pb2 import Event, SessionLog

        # Its readers drop what earlier files hold from this step on.
        restart = Event(session_log=SessionLog(status=SessionLog.START))
        logger.experiment._get_file_writer().add_event(restart, step)


def write_out(logger: Logger) -> None:
    """Write to its files what a log holds in memory."""
    if isinstance(logger, CSVLog):
        logger.save()
    elif isinstance(logger, TensorBoardLogger):
        logger.experiment.flush()
