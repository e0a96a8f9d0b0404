"""Callback for SIGTERM and SLURM's SIGUSR1: saves a checkpoint and stops all processes of a training."""

import logging
import os
import signal
import subprocess
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

from milpath.training.checkpoint_files import validation_follows

_log = logging.getLogger(__name__)
_STATUS = 128 + signal.SIGTERM
# Preemption leaves 30 s (Kubernetes, SLURM) to 120 s (SageMaker) before the process is killed.
_SECONDS_TO_SAVE = 10.0


class StopOnSignal(Callback):
    """After SIGTERM, finish the step, write `last.ckpt` and exit with 143; a second SIGTERM exits immediately.

    Lightning's own handler exits with 0, saves nothing, and communicates inside the signal handler, where processes at
    different points of the code deadlock. Here all processes agree after each step. If saving takes longer than ten
    seconds the process exits without it; the previous checkpoint stays intact.

    In a SLURM job SIGUSR1 (`#SBATCH --signal=USR1@120`) does the same and then requeues the job, in place of Lightning's
    handler, which saves `hpc_ckpt_*.ckpt` in the middle of a step.

    Training resumed from such a checkpoint is bit-identical to an uninterrupted run.
    """

    def __init__(self) -> None:
        self._asked = False
        self._requeue = False
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
        # Validation runs first, and after the last step of an epoch writes its own checkpoint.
        if not trainer.is_last_batch and self._is_asked(trainer) and not validation_follows(trainer):
            for callback in trainer.checkpoint_callbacks:
                if isinstance(callback, ModelCheckpoint) and callback.filename == "last" and callback.dirpath:
                    # All of the training's state; left unset, Lightning prints advice about it.
                    trainer.save_checkpoint(Path(callback.dirpath) / "last.ckpt", weights_only=False)
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
        if self._requeue and trainer.is_global_zero:
            _requeue_job()
        if trainer.state.fn == TrainerFn.FITTING:
            exception.add_note(f"after epoch {trainer.current_epoch}, step {trainer.global_step}")
        started = getattr(trainer.strategy.launcher, "procs", [])
        children = list(started)
        # Lightning monitors this list, and kills this process as well when one of them ends.
        started.clear()
        for child in children:
            # Saving is done, which was collective; without this process the children would wait forever.
            child.kill()
            child.wait()

    def _listen(self, trainer: Trainer) -> None:
        """Replace Lightning's handler; Lightning restores the original one when the Trainer is done."""
        if threading.current_thread() is threading.main_thread():
            signal.signal(signal.SIGTERM, partial(self._hear, trainer))
            if "SLURM_JOB_ID" in os.environ:
                signal.signal(signal.SIGUSR1, partial(self._hear, trainer))

    def _hear(self, trainer: Trainer, number: int, frame: FrameType | None) -> None:
        if self._asked or trainer.state.fn != TrainerFn.FITTING:
            raise SIGTERMException(_STATUS)
        self._asked = True
        self._requeue = number != signal.SIGTERM
        self._again = threading.Timer(_SECONDS_TO_SAVE, os.kill, (os.getpid(), signal.SIGTERM))
        self._again.daemon = True
        self._again.start()

    def _is_asked(self, trainer: Trainer) -> bool:
        """Return whether any process was told to stop; the result is the same on all processes."""
        agreed = trainer.strategy.reduce_boolean_decision(self._asked, all=False)
        self._asked |= agreed  # a signal may have arrived meanwhile
        return agreed


def _requeue_job() -> None:
    """Have SLURM start this job again from its script."""
    job = os.environ["SLURM_JOB_ID"]
    try:
        # The tool of the cluster, found like srun.
        subprocess.run(["scontrol", "requeue", job], check=True, capture_output=True, text=True)  # noqa: S603, S607
    except (OSError, subprocess.CalledProcessError) as error:
        reason = str(getattr(error, "stderr", "") or error).strip()
        _log.warning("job %s could not be requeued (%s); submit it again with the same run_name", job, reason)
