"""Cores that this process may use, and an ordered map in threads that compute in advance."""

import math
import os
from collections import deque
from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from itertools import islice
from pathlib import Path
from typing import TypeVar

Item = TypeVar("Item")
Result = TypeVar("Result")

# In a process that shares the cores with other trainings: their number.
JOBS = "MILPATH_JOBS"
# Quota and period of control groups, version 2 and 1; a container has its own below this path.
_CGROUP = Path("/sys/fs/cgroup")


def num_cores(cgroup: Path = _CGROUP) -> int:
    """Return the number of cores that this process may use: those it is bound to, at most the quota of its container.

    Args:
        cgroup: Where the control group of this process is mounted.
    """
    bound = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
    quota = _quota(cgroup)
    return bound if quota is None else max(1, min(bound, math.ceil(quota)))


def _quota(cgroup: Path) -> float | None:
    """Return the cores' worth of time that a container gets, if that is limited."""
    try:
        allowed, period = (cgroup / "cpu.max").read_text().split()
    except (OSError, ValueError):
        try:
            allowed = (cgroup / "cpu/cpu.cfs_quota_us").read_text().strip()
            period = (cgroup / "cpu/cpu.cfs_period_us").read_text().strip()
        except OSError:
            return None
    try:
        return int(allowed) / int(period) if int(allowed) > 0 else None
    except (ValueError, ZeroDivisionError):  # "max"
        return None


def map_in_threads(
    function: Callable[[Item], Result], items: Iterable[Item], num_threads: int | None = None
) -> Iterator[Result]:
    """Yield `function(item)` for each item in order; only a few are computed in advance, so that memory is bounded.

    Args:
        function: A function that releases the GIL most of the time: decoding, copying, numpy.
        items: The items; consumed one by one.
        num_threads: Number of threads; `None` means one per core, 0 computes in the calling thread.

    Example:
        >>> list(map_in_threads(abs, [-1, 2, -3], num_threads=2))
        [1, 2, 3]
    """
    num_threads = num_cores() if num_threads is None else num_threads
    if num_threads == 0:
        yield from map(function, items)
        return
    items = iter(items)
    with ThreadPoolExecutor(num_threads, thread_name_prefix="milpath-data") as pool:
        pending: deque[Future[Result]] = deque(pool.submit(function, item) for item in islice(items, num_threads + 1))
        while pending:
            result = pending.popleft().result()
            pending.extend(pool.submit(function, item) for item in islice(items, 1))
            yield result
