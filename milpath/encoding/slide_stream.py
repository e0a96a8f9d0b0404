"""Stream of the tiles of many slides, read by worker processes ahead of the encoder, in bounded memory."""

import fcntl
import json
import math
import queue
import threading
import time
from collections.abc import Iterable, Iterator
from contextlib import suppress
from types import TracebackType
from typing import Any, Self

import numpy as np

from milpath.encoding.tile_events import BagBegun, BagEnded, BagTiles, TileEvent
from milpath.tiling.slide_job import SlideJob, SlideRecord
from milpath.tiling.worker_pool import MAX_START_SECONDS, Worker

_MAX_LINE = 1 << 16
# Messages that wait for the encoder, of all workers together: 64 tiles.
_WAITING = 4
_PIPE_BYTES = 1 << 20
_SET_PIPE_SIZE = 1031  # F_SETPIPE_SZ of Linux


class SlideStream:
    """Context manager that reads slides in worker processes; iterating yields their tiles, of several slides in turn.

    A slide that crashes or hangs its process ends with an error; another process does the next slide.

    Args:
        jobs: The slides; taken as workers become free.
        num_workers: Number of processes.
        max_seconds: A slide that gives nothing for this long ends with an error; `None` is no limit. Time in which the
            encoder is behind does not count.
    """

    def __init__(self, jobs: Iterable[SlideJob], num_workers: int, max_seconds: float | None = None) -> None:
        self._jobs = iter(jobs)
        self._max_seconds = max_seconds
        self._lock = threading.Lock()
        self._closed = threading.Event()
        self._queue: queue.Queue[TileEvent | BaseException | None] = queue.Queue(_WAITING)
        self._readers = [_Reader(self, number) for number in range(num_workers)]

    def __enter__(self) -> Self:
        for reader in self._readers:
            reader.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._closed.set()
        for reader in self._readers:
            reader.kill()
        for reader in self._readers:
            reader.join()

    def __iter__(self) -> Iterator[TileEvent]:
        left = len(self._readers)
        while left:
            if self._max_seconds is not None:
                for reader in self._readers:
                    reader.kill_if_late(self._max_seconds)
            try:
                event = self._queue.get(timeout=1.0)
            except queue.Empty:
                continue
            if event is None:
                left -= 1
            elif isinstance(event, BaseException):
                raise event
            else:
                yield event

    def next_job(self) -> SlideJob | None:
        """Return the next slide, `None` if there is none."""
        with self._lock:
            return None if self._closed.is_set() else next(self._jobs, None)

    def put(self, event: TileEvent | BaseException | None) -> None:
        """Hand over an event as soon as there is room."""
        while not self._closed.is_set():
            with suppress(queue.Full):
                self._queue.put(event, timeout=0.2)
                return


class _Reader(threading.Thread):
    """The thread that gives slides to one worker process and reads its messages."""

    def __init__(self, stream: SlideStream, number: int) -> None:
        super().__init__(name=f"tiles-{number}", daemon=True)
        self._stream = stream
        self._worker: Worker | None = None
        # Since when it waits for its process; `None` while it waits for the encoder.
        self._waits_since: float | None = None
        self._late = False

    def run(self) -> None:
        """Read slides until there are none."""
        try:
            while (job := self._stream.next_job()) is not None:
                for event in self._read(job):
                    self._stream.put(event)
        except BaseException as error:  # raised again by the thread that encodes
            self._stream.put(error)
        finally:
            if self._worker is not None:
                self._worker.stop()
            self._stream.put(None)

    def kill(self) -> None:
        """End the process; the thread notices."""
        if (worker := self._worker) is not None:
            worker.kill()

    def kill_if_late(self, max_seconds: float) -> None:
        """End a process that gives nothing."""
        since, worker = self._waits_since, self._worker
        if since is not None and worker is not None and time.monotonic() - since > max_seconds:
            self._late = True
            worker.kill()

    def _read(self, job: SlideJob) -> Iterator[TileEvent]:
        """Yield the events of a slide; the last is its end."""
        if self._worker is None or not self._worker.alive:
            self._start()
        worker = self._worker
        assert worker is not None
        worker.give(job)
        # The start of a process is not the time of its slide.
        self._waits_since = time.monotonic() + MAX_START_SECONDS
        worker.begins()
        self._waits_since = None
        size = job.options.tile_size
        while True:
            line = self._line()
            if line is None:
                reason = worker.end_reason()
                if self._late:
                    reason, self._late = f"it gave no tile for {self._stream._max_seconds:g} seconds", False
                yield BagEnded(job.bag_id, reason)
                return
            if "record" in line:
                rows, picture = self._bytes(line["rows"]), self._bytes(line["picture"])
                sample = self._bytes(math.prod(line["sample"]))
                if rows is not None and picture is not None and sample is not None:
                    shaped = np.frombuffer(sample, np.uint8).reshape(line["sample"]) if sample else None
                    yield BagBegun(SlideRecord(**line["record"]), rows.decode("utf-8"), bytes(picture), shaped)
            elif "tiles" in line:
                positions = self._bytes(8 * line["tiles"])
                pixels = self._bytes(line["tiles"] * size * size * 3)
                if positions is not None and pixels is not None:
                    shaped = np.frombuffer(pixels, np.uint8).reshape(-1, size, size, 3)
                    yield BagTiles(job.bag_id, np.frombuffer(positions, np.int64), shaped)
            else:
                yield BagEnded(job.bag_id, line.get("error"), line.get("peak_memory", 0))
                return

    def _start(self) -> None:
        """Start a process."""
        if self._worker is not None:
            self._worker.stop()
        self._worker = Worker("milpath.encoding.tile_worker")
        with suppress(OSError):  # other systems than Linux, or a limit of the user
            fcntl.fcntl(self._worker.answers, _SET_PIPE_SIZE, _PIPE_BYTES)

    def _line(self) -> dict[str, Any] | None:
        """Return the next line of the process, `None` if it has ended."""
        assert self._worker is not None
        self._waits_since = time.monotonic()
        line = self._worker.answers.readline(_MAX_LINE)
        self._waits_since = None
        return json.loads(line) if line.endswith(b"\n") else None

    def _bytes(self, count: int) -> bytearray | None:
        """Return bytes of the process, `None` if it has ended."""
        assert self._worker is not None
        content = bytearray(count)
        view = memoryview(content)
        while view:
            self._waits_since = time.monotonic()
            read = self._worker.answers.readinto(view)
            self._waits_since = None
            if not read:
                return None
            view = view[read:]
        return content
