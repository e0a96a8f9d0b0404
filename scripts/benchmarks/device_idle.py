"""Share of an epoch of training in which a GPU does nothing, from torch's profiler.

Two epochs warm up, the third is timed without the profiler, and in the fourth the profiler records kernels and copies on the
device. Idle is what their union leaves of the time from the first to the last of them. The profiler makes launches a little
slower; the time of kernels against the epoch without it is given as well.
"""

import sys
import time
from collections.abc import Callable, Iterable, Sequence

import torch
from lightning.pytorch import Callback, LightningModule, Trainer
from torch.autograd import DeviceType
from torch.autograd.profiler_util import FunctionEvent
from torch.profiler import ProfilerActivity, profile

from benchmarks.timing import record, synchronise

EPOCHS = 4
# Events on the timeline of a device that are no work of it: marks that span kernels and the time between them, and waiting.
_NO_WORK = {"gpu_user_annotation", "overhead", "cuda_sync", "cuda_event"}


def busy_time(intervals: Iterable[tuple[float, float]]) -> float:
    """Return the length of the union of intervals `(start, end)`, in their unit."""
    total, reached = 0.0, float("-inf")
    for start, end in sorted(intervals):
        total += max(0.0, end - max(start, reached))
        reached = max(reached, end)
    return total


def idle_share(intervals: Sequence[tuple[float, float]]) -> float:
    """Return the share of the time from the first start to the last end that no interval covers, in [0, 1].

    Raises:
        ValueError: Without an interval, or if all have no length.
    """
    span = max(end for _, end in intervals) - min(start for start, _ in intervals) if intervals else 0.0
    if span <= 0:
        raise ValueError("no work on the device was recorded")
    return 1 - busy_time(intervals) / span


def work_intervals(
    events: Iterable[FunctionEvent], device_type: DeviceType = DeviceType.CUDA
) -> list[tuple[float, float]]:
    """Return `(start, end)` in microseconds of kernels and copies among the events of a profiler."""
    return [
        (event.time_range.start, event.time_range.end)
        for event in events
        if event.device_type == device_type
        and not getattr(event, "is_user_annotation", False)
        and getattr(event, "activity_type", None) not in _NO_WORK
    ]


class EpochClock(Callback):
    """Time each epoch, and record the last one with torch's profiler; steps stay those of a training without it.

    Attributes:
        seconds: Of each epoch, from its start to the end of its work on the device.
    """

    def __init__(self, activity: ProfilerActivity = ProfilerActivity.CUDA) -> None:
        self.seconds: list[float] = []
        self.profiler = profile(activities=[activity])
        self._start = 0.0

    def on_train_epoch_start(self, trainer: Trainer, pl_module: LightningModule) -> None:
        synchronise()
        if self._is_last(trainer):
            self.profiler.start()
        self._start = time.perf_counter()

    def on_train_epoch_end(self, trainer: Trainer, pl_module: LightningModule) -> None:
        synchronise()
        self.seconds.append(time.perf_counter() - self._start)
        if self._is_last(trainer):
            self.profiler.stop()

    def _is_last(self, trainer: Trainer) -> bool:
        return trainer.current_epoch + 1 == trainer.max_epochs


def idle_rows(what: str, device: str, fit: Callable[[int, Callback], object]) -> list[dict]:
    """Return the rows of a training on a GPU, or say that there is none; a CPU has no such rows.

    Args:
        what: What is trained, for the names of rows.
        device: "cuda" or "cpu".
        fit: Trains a number of epochs with a callback.
    """
    if device != "cuda":
        sys.stderr.write(f"device idle, {what}: not measured, no GPU\n")
        return []
    clock = EpochClock()
    synchronise()  # also what sets CUDA up, without which there is no peak to reset
    torch.cuda.reset_peak_memory_stats()
    fit(EPOCHS, clock)
    peak = torch.cuda.max_memory_allocated()
    intervals = work_intervals(clock.profiler.events() or [])
    try:
        share = idle_share(intervals)
    except ValueError as error:  # in some containers the profiler may not read the card
        return [record(f"device idle, {what}: NOT MEASURED, {error}", len(intervals), "events")]
    _, _, epoch, profiled = clock.seconds
    without = 1 - busy_time(intervals) / 1e6 / epoch
    return [
        record(f"device idle, {what}: from the first to the last kernel of an epoch", 100 * share, "%"),
        record(f"device idle, {what}: kernels against an epoch without the profiler", 100 * without, "%"),
        record(f"device idle, {what}: an epoch with the profiler", profiled, "s", profiled / epoch, "without it"),
        record(f"peak memory of the card, {what}", peak / 1e9, "GB"),
    ]
