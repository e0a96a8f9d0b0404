"""Pool of worker processes; one that crashes or hangs is reported with its slide and replaced."""

import json
import os
import selectors
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterable, Iterator, Sequence
from contextlib import suppress
from io import FileIO
from itertools import islice
from pathlib import Path
from typing import Any, NamedTuple

from milpath.tiling.slide_job import READY, OutputError, SlideJob

_PACKAGE_PARENT = Path(__file__).resolve().parents[2]
_MAX_ANSWER = 1 << 16
# A process loads its libraries after it has received its first slide, which may take long on a busy disk.
MAX_START_SECONDS = 120.0


class Answer(NamedTuple):
    """Result of a slide.

    Attributes:
        job: The slide.
        error: Why it could not be cut; `None` on success.
        num_tiles: Number of tiles in its bag.
        peak_memory: Peak memory of its worker so far, in bytes.
    """

    job: SlideJob
    error: str | None
    num_tiles: int = 0
    peak_memory: int = 0


class Worker:
    """One process that cuts slides.

    Args:
        module: The program that it runs.

    Attributes:
        job: The current slide; `None` if it is idle.
        alive: Whether it can take another slide.
        answers: Becomes readable when the slide is done or the process has ended.
    """

    def __init__(self, module: str = "milpath.tiling.worker") -> None:
        self.job: SlideJob | None = None
        self.alive = True
        self._begun = False
        self._since = 0.0
        self._errors = tempfile.TemporaryFile()  # noqa: SIM115
        paths = [str(_PACKAGE_PARENT), *filter(None, [os.environ.get("PYTHONPATH")])]
        # One thread each: the workers share the cores.
        environment = os.environ | {
            "PYTHONPATH": os.pathsep.join(paths), "PYTHONFAULTHANDLER": "1",
            "OMP_NUM_THREADS": "1", "OPENBLAS_NUM_THREADS": "1", "MKL_NUM_THREADS": "1",
        }  # fmt: skip
        self._process = subprocess.Popen(  # noqa: S603  # a module of this package
            [sys.executable, "-m", module],
            stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=self._errors, env=environment,
            bufsize=0,  # a selector does not see buffered data
        )  # fmt: skip
        assert self._process.stdin is not None
        assert isinstance(self._process.stdout, FileIO)  # as without a buffer
        self._jobs, self.answers = self._process.stdin, self._process.stdout
        _running.add(self)

    @property
    def seconds(self) -> float:
        """Seconds since it started its slide."""
        return time.monotonic() - self._since - (0 if self._begun else MAX_START_SECONDS)

    def begins(self) -> bool:
        """Read the message that the process has started, if it is one; the time of its first slide counts from then."""
        if self._begun:
            return False
        self._begun, self._since = True, time.monotonic()
        return self.answers.readline(_MAX_ANSWER) == READY

    def give(self, job: SlideJob) -> None:
        """Send a slide to the process."""
        self.job, self._since = job, time.monotonic()
        # A process that has died is noticed when its answer is read.
        with suppress(BrokenPipeError):
            self._jobs.write(job.to_json().encode("ascii") + b"\n")
            self._jobs.flush()

    def finish(self) -> Answer:
        """Return the answer that is ready; without one, the slide ended the process.

        Raises:
            OutputError: If the process could not write its results.
        """
        job, self.job = self.job, None
        assert job is not None
        line = self.answers.readline(_MAX_ANSWER)
        if not line.endswith(b"\n"):
            return Answer(job, self.end_reason())
        values: dict[str, Any] = json.loads(line)
        if "stop" in values:
            raise OutputError(values["stop"])
        return Answer(job, values.get("error"), values.get("num_tiles", 0), values.get("peak_memory", 0))

    def end_reason(self) -> str:
        """Return how the process ended while it read a slide."""
        self.alive = False
        return f"reading it ended the process ({self._last_words()})"

    def give_up(self, max_seconds: float) -> Answer:
        """Kill a process that takes too long."""
        job, self.job, self.alive = self.job, None, False
        assert job is not None
        return Answer(job, f"it took longer than {max_seconds:g} seconds")

    def kill(self) -> None:
        """Kill the process; a thread that waits for its answer notices."""
        self._process.kill()

    def stop(self) -> None:
        """End the process and close its pipes."""
        self.kill()
        _running.discard(self)
        self._process.wait()
        for file in (self._jobs, self.answers, self._errors):
            with suppress(BrokenPipeError):
                file.close()

    def _last_words(self) -> str:
        """Return how the process ended, and the first line of its crash report if it wrote one."""
        status = self._process.wait()
        self._errors.seek(0)
        lines = self._errors.read(1 << 16).decode(errors="replace").splitlines()
        report = [line for line in lines if line.startswith("Fatal")][:1]
        return ", ".join([signal.Signals(-status).name if status < 0 else f"exit status {status}", *report])


_running: set[Worker] = set()


def kill_workers() -> None:
    """Kill all workers of this process, before it ends while one of its threads still waits for them."""
    for worker in list(_running):
        worker.kill()


def cut_slides(jobs: Iterable[SlideJob], num_workers: int, max_seconds: float | None = None) -> Iterator[Answer]:
    """Yield the result of each slide as soon as it is known.

    Args:
        jobs: The slides; consumed as workers become free.
        num_workers: Number of processes.
        max_seconds: A slide that takes longer is given up; `None` is no limit.

    Raises:
        OutputError: If results cannot be written, as on a full disk; slides not yet yielded are not done.
    """
    waiting = iter(jobs)
    workers: list[Worker] = []
    try:
        while True:
            for job in islice(waiting, num_workers - len(workers)):
                workers.append(Worker())
                workers[-1].give(job)
            if not workers:
                return
            for worker, answer in _answers(workers, max_seconds):
                following = next(waiting, None) if worker.alive else None
                if following is None:
                    workers.remove(worker)
                    worker.stop()
                else:
                    # Before the answer is processed, so that no worker waits for the parent.
                    worker.give(following)
                yield answer
    finally:
        for worker in workers:
            worker.stop()


def _answers(workers: Sequence[Worker], max_seconds: float | None) -> list[tuple[Worker, Answer]]:
    """Wait for answers, or for a slide that takes too long."""
    with selectors.DefaultSelector() as selector:
        for worker in workers:
            selector.register(worker.answers, selectors.EVENT_READ, worker)
        left = None if max_seconds is None else max(0.0, max_seconds - max(worker.seconds for worker in workers))
        ready: list[Worker] = [key.data for key, _ in selector.select(left)]
    done = [(worker, worker.finish()) for worker in ready if not worker.begins()]
    if max_seconds is not None:
        late = [worker for worker in workers if worker not in ready and worker.seconds >= max_seconds]
        done += [(worker, worker.give_up(max_seconds)) for worker in late]
    return done
