"""Lightning's loop over the steps of an epoch, without the hooks that nothing implements."""

import os
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from functools import cache
from typing import Any, NamedTuple, Self

import lightning
import torch
from lightning.pytorch import Callback, LightningDataModule, LightningModule, Trainer
from lightning.pytorch.callbacks import LearningRateMonitor, ModelCheckpoint, RichProgressBar, TQDMProgressBar
from lightning.pytorch.core.hooks import DataHooks
from lightning.pytorch.loops.fetchers import _DataFetcher, _DataLoaderIterDataFetcher
from lightning.pytorch.loops.training_epoch_loop import _TrainingEpochLoop
from lightning.pytorch.plugins.precision import MixedPrecision, Precision
from lightning.pytorch.profilers import PassThroughProfiler
from lightning.pytorch.strategies import SingleDeviceStrategy
from packaging.version import Version
from torch import Tensor
from torch.optim import LBFGS, Optimizer
from typing_extensions import override

from milpath.data.loading.loader import BagLoader
from milpath.training.callbacks.step_trace import StepTrace
from milpath.training.classifier import MILClassifier
from milpath.training.steps.optimizer_step import quick_step

Hooks = tuple[Callable[..., Any], ...]

# Lightning's loops are not part of its interface: a version that this was not tested with keeps its own.
_TESTED = (2, 6)
# Called in a step with (trainer, module, ...) by callbacks and with (...) by the module; nobody returns anything.
_STEP_HOOKS = (
    "on_train_batch_start", "on_before_zero_grad", "on_before_backward", "on_after_backward",
    "on_before_optimizer_step", "on_train_batch_end",
)  # fmt: skip
_TRANSFER_HOOKS = ("on_before_batch_transfer", "transfer_batch_to_device", "on_after_batch_transfer")
# A module that defines one of them changes what a step is.
_OF_MODULE = (
    *_STEP_HOOKS, *_TRANSFER_HOOKS, "backward", "optimizer_step", "optimizer_zero_grad", "configure_gradient_clipping",
)  # fmt: skip
# Callbacks of Lightning whose hooks of a step log nothing.
_SILENT = (ModelCheckpoint, RichProgressBar, TQDMProgressBar)
# By this variable Lightning lets torch look for a library of NVIDIA first wherever it looks for a GPU, as optimizers do in
# every step: on a machine without one that takes longer than the step of the optimizer.
_LIBRARY_FIRST = "PYTORCH_NVML_BASED_CUDA_CHECK"


class StepHooks(NamedTuple):
    """The hooks of a step that some callback implements, in the order of the callbacks."""

    on_train_batch_start: Hooks
    on_before_zero_grad: Hooks
    on_before_backward: Hooks
    on_after_backward: Hooks
    on_before_optimizer_step: Hooks
    on_train_batch_end: Hooks

    @classmethod
    def of(cls, callbacks: list[Callback]) -> Self:
        """Return the hooks of callbacks."""
        return cls(*(tuple(getattr(own, name) for own in callbacks if _acts(own, name)) for name in _STEP_HOOKS))


class StepLoop(_TrainingEpochLoop):
    """Lightning's loop over the steps of an epoch, except that a plain step calls only the hooks that are implemented.

    Lightning calls every hook of every callback in every step, whether it is implemented or not, each within a context of
    its profiler: on bags of features that takes longer than the network. A step is plain on one device, with one optimizer
    that steps after every batch, no profiler, and no callback or module of the user's that takes part in steps. Every
    other step is Lightning's own. Progress, logs and checkpoints are the same.
    """

    _hooks: StepHooks | None = None
    _step: Callable[[], Any] | None = None
    _validates: bool = False

    @classmethod
    def put_into(cls, trainer: Trainer) -> None:
        """Let a Trainer use this loop, unless it has a loop of its own or is of a version that this was not tested with."""
        before = trainer.fit_loop.epoch_loop
        if type(before) is _TrainingEpochLoop and Version(lightning.__version__).release[:2] == _TESTED:
            trainer.fit_loop.epoch_loop = cls(trainer, before.min_steps, before.max_steps)

    @override
    def run(self, data_fetcher: _DataFetcher) -> None:
        try:
            with known_to_have_no_gpu():
                super().run(data_fetcher)
        finally:
            self._hooks = self._step = None

    @override
    def on_run_start(self, data_fetcher: _DataFetcher) -> None:
        super().on_run_start(data_fetcher)
        trainer = self.trainer
        callbacks: list[Callback] = trainer.callbacks
        self._validates = super()._should_check_val_epoch()
        if has_plain_steps(trainer, data_fetcher):
            self._hooks = StepHooks.of(callbacks)
            traced = torch.autograd.profiler._is_profiler_enabled or any(
                isinstance(own, StepTrace) for own in callbacks
            )
            self._step = trainer.optimizers[0].step if traced else quick_step(trainer.optimizers[0])

    @override
    def advance(self, data_fetcher: _DataFetcher) -> None:
        hooks, trainer, progress = self._hooks, self.trainer, self.batch_progress
        if hooks is None or self.restarting:
            super().advance(data_fetcher)
            return
        module, results = trainer.lightning_module, self._results
        self.val_loop.restarting = False
        loaded, _, _ = next(data_fetcher)
        batch_idx = self.batch_idx + 1
        progress.is_last_batch = data_fetcher.done
        batch = loaded.to(trainer.strategy.root_device)
        progress.increment_ready()
        trainer._logger_connector.on_batch_start(batch)
        for hook in hooks.on_train_batch_start:
            hook(trainer, module, batch, batch_idx)
        progress.increment_started()
        loss = self._optimize(hooks, batch, batch_idx)
        progress.increment_processed()
        if trainer.lr_scheduler_configs:
            if any(config.interval == "step" for config in trainer.lr_scheduler_configs):
                self.update_lr_schedulers("step", update_plateau_schedulers=False)
            if self._num_ready_batches_reached():
                self.update_lr_schedulers("epoch", update_plateau_schedulers=False)
        for hook in hooks.on_train_batch_end:
            hook(trainer, module, {"loss": loss}, batch, batch_idx)
        results.batch = results.batch_size = None
        progress.increment_completed()

    @override
    def _should_check_val_epoch(self) -> bool:
        # The answer for an epoch does not change within it, and Lightning asks in every step.
        return super()._should_check_val_epoch() if self._hooks is None else self._validates

    @override
    def _save_loggers_on_train_batch_end(self) -> None:
        # A plain step has logged nothing; what the epoch logs is saved with it.
        if self._hooks is None:
            super()._save_loggers_on_train_batch_end()

    def _optimize(self, hooks: StepHooks, batch: Any, batch_idx: int) -> Tensor:
        """Compute the loss and its gradient, take a step of the optimizer, and return the loss, detached."""
        trainer, done = self.trainer, self.automatic_optimization.optim_progress.optimizer
        module, optimizer = trainer.lightning_module, trainer.optimizers[0]
        done.step.increment_ready()
        with trainer.precision_plugin.forward_context():
            loss: Tensor = module.training_step(batch, batch_idx)
        done.zero_grad.increment_ready()
        for hook in hooks.on_before_zero_grad:
            hook(trainer, module, optimizer)
        done.zero_grad.increment_started()
        for group in optimizer.param_groups:  # `zero_grad`, without its record for a profiler
            for parameter in group["params"]:
                parameter.grad = None
        done.zero_grad.increment_completed()
        for hook in hooks.on_before_backward:
            hook(trainer, module, loss)
        loss.backward()
        for hook in hooks.on_after_backward:
            hook(trainer, module)
        for hook in hooks.on_before_optimizer_step:
            hook(trainer, module, optimizer)
        if trainer.gradient_clip_val:
            module.configure_gradient_clipping(optimizer, trainer.gradient_clip_val, trainer.gradient_clip_algorithm)
        (self._step or optimizer.step)()
        done.step.increment_completed()
        return loss.detach()


@cache
def _has_gpu() -> bool:
    """Return whether there is a GPU, which does not change while a process lives and takes a while to find out."""
    return torch.cuda.is_available()


@contextmanager
def known_to_have_no_gpu() -> Iterator[None]:
    """Let torch ask its own runtime for GPUs, if there is none, rather than look for a library of NVIDIA each time."""
    before = None if _has_gpu() else os.environ.pop(_LIBRARY_FIRST, None)
    try:
        yield
    finally:
        if before is not None:
            os.environ[_LIBRARY_FIRST] = before


def has_plain_steps(trainer: Trainer, data_fetcher: _DataFetcher) -> bool:
    """Return whether the steps of a training need none of what `StepLoop` leaves out.

    Args:
        trainer: The Trainer, in a training.
        data_fetcher: Where it takes batches from.
    """
    module, precision = trainer.lightning_module, trainer.precision_plugin
    loaders = data_fetcher.combined_loader.flattened
    return (
        type(trainer.strategy) is SingleDeviceStrategy
        and (type(precision) is Precision or (type(precision) is MixedPrecision and precision.scaler is None))
        and type(trainer.profiler) is PassThroughProfiler  # type: ignore[attr-defined]
        and trainer.accumulate_grad_batches == 1
        and not isinstance(data_fetcher, _DataLoaderIterDataFetcher)
        and len(loaders) == 1
        and type(loaders[0]) is BagLoader
        and isinstance(module, MILClassifier)
        and type(module).training_step is MILClassifier.training_step
        and trainer.strategy.model is module
        and len(trainer.optimizers) == 1
        and not _needs_closure(trainer.optimizers[0])
        and not any(_implements(module, name, LightningModule) for name in _OF_MODULE)
        and not _changes_batches(trainer.datamodule)  # type: ignore[attr-defined]
        and all(map(_is_silent, trainer.callbacks))  # type: ignore[attr-defined]
    )


def _needs_closure(optimizer: Optimizer) -> bool:
    """Return whether an optimizer computes the loss several times in a step."""
    return isinstance(optimizer, LBFGS) or not type(optimizer).__module__.startswith("torch.optim.")


def _changes_batches(datamodule: LightningDataModule | None) -> bool:
    """Return whether a data module takes part in the transfer of batches to the device."""
    return datamodule is not None and any(_implements(datamodule, name, DataHooks) for name in _TRANSFER_HOOKS)


def _is_silent(callback: Callback) -> bool:
    """Return whether a callback logs nothing in a step."""
    if type(callback) is LearningRateMonitor:
        return callback.logging_interval == "epoch"
    known = type(callback) in _SILENT or type(callback).__module__.startswith("milpath.")
    return known or not any(_implements(callback, name) for name in _STEP_HOOKS)


def _acts(callback: Callback, name: str) -> bool:
    """Return whether a callback does something in a hook of a plain step: most checkpoints are only of epochs."""
    if type(callback) is LearningRateMonitor:
        return False  # that of a plain step logs at the start of epochs
    if isinstance(callback, ModelCheckpoint) and name == "on_train_batch_end":
        return callback._every_n_train_steps > 0 or callback._train_time_interval is not None
    return _implements(callback, name)


def _implements(owner: object, name: str, base: type = Callback) -> bool:
    """Return whether an object has a method of its own in place of that of its base class."""
    own = getattr(owner, name)
    return getattr(own, "__func__", own) is not getattr(base, name)
