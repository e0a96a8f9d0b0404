"""The Trainer of a configuration, with its callbacks and loggers."""

import copy
import os
from collections.abc import Iterator
from contextlib import contextmanager
from functools import cache
from importlib.metadata import EntryPoints, entry_points
from typing import Any, cast

from lightning.fabric.utilities import registry
from lightning.fabric.utilities.exceptions import MisconfigurationException
from lightning.pytorch import Callback, Trainer
from lightning.pytorch.callbacks import LearningRateMonitor, ProgressBar
from lightning.pytorch.loggers import Logger
from lightning.pytorch.plugins.io import TorchCheckpointIO
from omegaconf import DictConfig, OmegaConf

from milpath.config.command import quieten_frameworks
from milpath.records.error_text import reason_of
from milpath.runs.instantiation import instantiate_entry
from milpath.training.callbacks.collapse_warning import CollapseWarning
from milpath.training.callbacks.continued_logs import ContinuedLogs
from milpath.training.callbacks.epoch_progress import epoch_progress
from milpath.training.callbacks.memory_callback import KeptMemory
from milpath.training.callbacks.stop_on_signal import StopOnSignal
from milpath.training.checkpoint_files import AtomicCheckpointIO
from milpath.training.process_group import leave_at_exit
from milpath.training.steps.step_loop import StepLoop
from milpath.training.steps.step_seed import StepSeed

_AFTER_EVERY_EPOCH = (
    "lightning.pytorch.callbacks.ModelCheckpoint", "milpath.training.checkpoint_files.BestCheckpoint",
)  # fmt: skip
# Loggers talk to the server that the user names, and to nobody else; a variable that the user has set stays.
_WITHOUT_TELEMETRY = {"MLFLOW_DISABLE_TELEMETRY": "true", "WANDB_ERROR_REPORTING": "false"}


def build_trainer(config: DictConfig, checkpoint_seconds: float = 0.0) -> Trainer:
    """Return the Trainer of a configuration with its callbacks and loggers.

    Args:
        config: The composed root of a command.
        checkpoint_seconds: Least time between two checkpoints to resume from at the end of epochs (see `SparingCheckpoint`).
    """
    quieten_frameworks()
    callbacks = _entries(_sparing(config.get("callbacks"), checkpoint_seconds))
    for name, value in _WITHOUT_TELEMETRY.items():
        os.environ.setdefault(name, value)
    loggers = _entries(config.get("logger"))
    if not loggers:
        # Lightning raises an error if this callback has no logger.
        callbacks = [callback for callback in callbacks if not isinstance(callback, LearningRateMonitor)]
    if trace := instantiate_entry(config.get("profiler")):
        callbacks.append(trace)
    callbacks += [StepSeed(config.seed), KeptMemory(), StopOnSignal(), ContinuedLogs()]
    if "callbacks" in config:  # a training
        callbacks.append(CollapseWarning(str(config.paths.run_dir)))
    callbacks, shown = _with_progress(callbacks, config)
    with _packages_looked_through_once(), refused_in_one_line():
        trainer = cast(
            Trainer,
            instantiate_entry(
                config.trainer,
                callbacks=callbacks,
                enable_progress_bar=shown,
                logger=cast(list[Logger], loggers) or False,
                # BagDataModule distributes the bags itself, because Lightning's sampler repeats some of them.
                use_distributed_sampler=False,
            ),
        )
    StepLoop.put_into(trainer)
    if type(trainer.strategy.checkpoint_io) is TorchCheckpointIO:
        # For every strategy, including one given as an object.
        trainer.strategy.checkpoint_io = AtomicCheckpointIO()
    leave_at_exit()
    return trainer


@contextmanager
def refused_in_one_line() -> Iterator[None]:
    """Raise what Lightning says against its settings as an error of the user."""
    try:
        yield
    except MisconfigurationException as error:
        raise ValueError(
            f"the Trainer refuses its settings ({reason_of(error)}); see trainer.* and callbacks.*"
        ) from None


@contextmanager
def _packages_looked_through_once() -> Iterator[None]:
    """Let Lightning look for callbacks of installed packages once in a process, not for each of the Trainers of a table.

    It reads a file of every package, 11 ms with 350 of them. The callbacks are still made anew for each Trainer.
    """
    asks: Any = registry
    if getattr(asks, "entry_points", None) is not entry_points:  # another version of Lightning
        yield
        return
    asks.entry_points = _entry_points
    try:
        yield
    finally:
        asks.entry_points = entry_points


@cache
def _entry_points(group: str) -> EntryPoints:
    """Return the entry points of all installed packages in a group."""
    return entry_points(group=group)


def _sparing(entries: DictConfig | None, seconds: float) -> DictConfig | None:
    """Return the callbacks' entries, in which what writes a checkpoint after every epoch does so less often."""
    if not entries or not seconds:
        return entries
    entries = copy.deepcopy(entries)
    OmegaConf.set_struct(entries, False)
    for entry in entries.values():
        if entry and entry.get("_target_") in _AFTER_EVERY_EPOCH and not entry.get("monitor"):
            entry.update({"_target_": "milpath.training.checkpoint_files.SparingCheckpoint", "min_seconds": seconds})
    return entries


def _with_progress(callbacks: list[Callback], config: DictConfig) -> tuple[list[Callback], bool]:
    """Return the callbacks with at most one that shows progress, and whether there is one.

    Lightning would draw its own bar, also in a log, and refuses a callback together with `enable_progress_bar=false`.
    """
    wanted = bool(config.trainer.get("enable_progress_bar", True))
    if not wanted:
        return [callback for callback in callbacks if not isinstance(callback, ProgressBar)], False
    if "callbacks" not in config:  # a command that only predicts
        callbacks = [*callbacks, epoch_progress()]
    return callbacks, any(isinstance(callback, ProgressBar) for callback in callbacks)


def _entries(config: DictConfig | None) -> list[Any]:
    """Return the objects of named entries; entries set to null are skipped."""
    return [instantiate_entry(entry) for entry in (config or {}).values() if entry]
