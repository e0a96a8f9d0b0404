"""Callback that profiles a few training steps by operator."""

import logging
from pathlib import Path
from typing import Any

import torch
from lightning.pytorch import Callback, LightningModule, Trainer
from torch.profiler import ProfilerActivity, profile

from milpath.records.atomic_files import write_text

_log = logging.getLogger(__name__)
_ROWS = 40


class StepTrace(Callback):
    """Trace some training steps with torch.profiler and write the trace into the run folder.

    `steps.json.gz` opens in chrome://tracing or ui.perfetto.dev; `operators.txt` holds the totals of each operator. With
    several processes, all ranks but 0 append their rank to the file names.

    Args:
        folder: Output folder of both files.
        skip: Training steps before the trace; the first ones allocate and choose kernels.
        steps: Training steps in the trace, at least 1.
        memory: Also record the memory each operator allocates.

    Raises:
        ValueError: If `skip` is negative or `steps` is less than 1.
    """

    def __init__(self, folder: str | Path, skip: int = 3, steps: int = 5, memory: bool = False) -> None:
        if skip < 0 or steps < 1:
            raise ValueError(f"a trace needs profiler.skip >= 0 and profiler.steps >= 1, got {skip} and {steps}")
        self.folder = Path(folder)
        self.skip = skip
        self.steps = steps
        self.memory = memory
        self._seen = 0
        self._profile: profile | None = None

    def on_train_batch_start(self, trainer: Trainer, pl_module: LightningModule, *_: Any) -> None:
        if self._seen == self.skip:
            activities = [ProfilerActivity.CPU] + [ProfilerActivity.CUDA] * torch.cuda.is_available()
            self._profile = profile(activities=activities, record_shapes=True, profile_memory=self.memory)
            self._profile.start()
        self._seen += 1

    def on_train_batch_end(self, trainer: Trainer, pl_module: LightningModule, *_: Any) -> None:
        if self._seen == self.skip + self.steps:
            self._write(trainer.global_rank)

    def on_train_end(self, trainer: Trainer, pl_module: LightningModule) -> None:
        if self._seen <= self.skip:
            _log.warning("no trace: the run had %d training steps and profiler.skip is %d", self._seen, self.skip)
        self._write(trainer.global_rank)

    def on_exception(self, trainer: Trainer, pl_module: LightningModule, exception: BaseException) -> None:
        # A profiler that is not stopped would stay active for the rest of the process.
        self._write(trainer.global_rank)

    def _write(self, rank: int) -> None:
        """Stop and write the trace if one is running."""
        trace, self._profile = self._profile, None
        if trace is None:
            return
        trace.stop()
        self.folder.mkdir(parents=True, exist_ok=True)
        suffix = f"_{rank}" if rank else ""
        unfinished = self.folder / f".unfinished{suffix}.json.gz"  # torch chooses compression by the suffix
        trace.export_chrome_trace(str(unfinished))
        unfinished.replace(self.folder / f"steps{suffix}.json.gz")
        order = "self_cuda_time_total" if torch.cuda.is_available() else "self_cpu_time_total"
        table = trace.key_averages().table(sort_by=order, row_limit=_ROWS)
        write_text(self.folder / f"operators{suffix}.txt", table)
