"""A training that is told to stop keeps what it has learned, and takes its processes along."""

import os
import signal
import threading
from functools import partial
from pathlib import Path
from types import FrameType
from typing import Any

from lightning.pytorch import Callback, LightningModule, Trainer
from lightning.pytorch.callbacks import ModelCheckpoint
from lightning.pytorch.trainer.states import TrainerFn
from lightning.pytorch.utilities.exceptions import SIGTERMException
from typing_extensions import override

_STATUS = 128 + signal.SIGTERM
# Preemption leaves 30 s (Kubernetes, SLURM) to 120 s (SageMaker): what takes longer than this is not waited for.
_SECONDS_TO_SAVE = 10.0


class StopOnSignal(Callback):
    """After SIGTERM, finish the step, write `last.ckpt` and exit with 143; a second SIGTERM exits at once.

    Lightning's own handler exits with 0 and saves nothing, and it communicates inside of the handler, where processes that
    are at different places wait for each other. Here all processes agree after each step. Whatever takes longer than ten
    seconds is given up: the checkpoint before is whole.

    Training goes on from such a checkpoint as if it had not been stopped, to the last bit.
    """

    def __init__(self) -> None:
        self._asked = False
        self._again: threading.Timer | None = None

    @override
    def on_train_start(self, trainer: Trainer, pl_module: LightningModule) -> None:
        self._listen(trainer)

    @override
    def on_predict_start(self, trainer: Trainer, pl_module: LightningModule) -> None:
        self._listen(trainer)

    @override
    def on_train_batch_end(
        self, trainer: Trainer, pl_module: LightningModule, outputs: Any, batch: Any, batch_idx: int
    ) -> None:
        # The last step of an epoch belongs to its validation, and to the checkpoint that is written after it.
        if not trainer.is_last_batch and self._is_asked(trainer):
            for callback in trainer.checkpoint_callbacks:
                if isinstance(callback, ModelCheckpoint) and callback.filename == "last" and callback.dirpath:
                    trainer.save_checkpoint(Path(callback.dirpath) / "last.ckpt")
                    break
            raise SIGTERMException(_STATUS)

    @override
    def on_train_epoch_start(self, trainer: Trainer, pl_module: LightningModule) -> None:
        if self._is_asked(trainer):
            raise SIGTERMException(_STATUS)

    @override
    def on_train_end(self, trainer: Trainer, pl_module: LightningModule) -> None:
        if self._is_asked(trainer):
            raise SIGTERMException(_STATUS)

    @override
    def on_exception(self, trainer: Trainer, pl_module: LightningModule, exception: BaseException) -> None:
        if not isinstance(exception, KeyboardInterrupt | SystemExit):
            return
        if self._again is not None:
            self._again.cancel()
        if trainer.state.fn == TrainerFn.FITTING:
            exception.add_note(f"after epoch {trainer.current_epoch}, step {trainer.global_step}")
        launcher = trainer.strategy.launcher
        children = list(getattr(launcher, "procs", []))
        if children:
            # Lightning watches this list, and kills this process too when one of them ends.
            launcher.procs.clear()  # type: ignore[union-attr]
        for child in children:
            # What was to be saved is saved, by all of them together; alone they wait for this process.
            child.kill()
            child.wait()

    def _listen(self, trainer: Trainer) -> None:
        """Take the place of Lightning's handler, which puts back the one before it when the Trainer is done."""
        if threading.current_thread() is threading.main_thread():
            signal.signal(signal.SIGTERM, partial(self._hear, trainer))

    def _hear(self, trainer: Trainer, number: int, frame: FrameType | None) -> None:
        if self._asked or trainer.state.fn != TrainerFn.FITTING:
            raise SIGTERMException(_STATUS)
        self._asked = True
        self._again = threading.Timer(_SECONDS_TO_SAVE, os.kill, (os.getpid(), signal.SIGTERM))
        self._again.daemon = True
        self._again.start()

    def _is_asked(self, trainer: Trainer) -> bool:
        """Return whether any process was told to stop; all of them come to the same answer."""
        agreed = trainer.strategy.reduce_boolean_decision(self._asked, all=False)
        self._asked |= agreed  # a signal may have come meanwhile
        return agreed
