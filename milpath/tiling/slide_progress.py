"""Progress of a tiling run: a bar on a terminal, occasional lines in a log."""

import time
from types import TracebackType
from typing import Self

from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeElapsedColumn, TimeRemainingColumn

from milpath.drawing.progress import ProgressLines


class SlideProgress:
    """Context manager that counts slides.

    Args:
        total: Number of slides to do.
        doing: What is counted: "slides cut" or "slides encoded".

    Attributes:
        num_done: Slides done so far, including failed ones.
        num_failed: Slides that failed.
        peak_memory: Largest memory of a worker in bytes.
    """

    def __init__(self, total: int, doing: str) -> None:
        self.total = total
        self.doing = doing
        self.num_done = 0
        self.num_failed = 0
        self.peak_memory = 0
        self._started = time.monotonic()
        self._lines = ProgressLines(doing)
        self._console = Console(stderr=True)
        self._bar: Progress | None = None

    @property
    def seconds(self) -> float:
        """Seconds since the start."""
        return time.monotonic() - self._started

    @property
    def rate(self) -> float:
        """Slides per second so far."""
        return self.num_done / max(self.seconds, 1e-9)

    def __enter__(self) -> Self:
        if self._console.is_terminal:
            words = TextColumn("{task.fields[rate]:.1f} slides/s, {task.fields[failed]} failed")
            columns = (BarColumn(), MofNCompleteColumn(), words, TimeElapsedColumn(), TimeRemainingColumn())
            self._bar = Progress(TextColumn(self.doing), *columns, console=self._console)
            self._task = self._bar.add_task(self.doing, total=self.total, rate=0.0, failed=0)
            self._bar.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        if self._bar is not None:
            self._bar.stop()

    def advance(self, *, failed: bool, peak_memory: int) -> None:
        """Count one slide."""
        self.num_done += 1
        self.num_failed += failed
        self.peak_memory = max(self.peak_memory, peak_memory)
        if self._bar is not None:
            self._bar.update(self._task, completed=self.num_done, rate=self.rate, failed=self.num_failed)
        else:
            self._lines.show(self.num_done, self.total, f"{self.rate:.1f} slides/s, {self.num_failed} failed")
