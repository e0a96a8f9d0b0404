"""Callback that takes from the logs what a resumed run will log again."""

from lightning.pytorch import Callback, LightningModule, Trainer
from lightning.pytorch.loggers import Logger, TensorBoardLogger
from typing_extensions import override

from milpath.training.csv_log import CSVLog


class ContinuedLogs(Callback):
    """Before the first step, remove the steps from `metrics.csv` and TensorBoard that a killed run did after its checkpoint.

    They are trained again; without this callback they would be in the log twice. MLflow and W&B begin another run of the
    same name instead, so that theirs need nothing.
    """

    @override
    def on_train_start(self, trainer: Trainer, pl_module: LightningModule) -> None:
        if trainer.is_global_zero:
            for logger in trainer.loggers:
                continue_from(logger, trainer.global_step)


def continue_from(logger: Logger, step: int) -> None:
    """Remove steps from `step` on, counted from 0, from a log that an earlier process wrote."""
    if isinstance(logger, CSVLog):
        logger.continue_from(step)
    elif isinstance(logger, TensorBoardLogger) and step:
        from tensorboard.compat.proto.event_pb2 import Event, SessionLog  # type: ignore[import-untyped]

        # Its readers drop what earlier files hold from this step on.
        restart = Event(session_log=SessionLog(status=SessionLog.START))
        logger.experiment._get_file_writer().add_event(restart, step)
