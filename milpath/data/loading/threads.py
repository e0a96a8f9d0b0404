"""Ordered map in threads that compute in advance."""

import os
from collections import deque
from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from itertools import islice
from typing import TypeVar

Item = TypeVar("Item")
Result = TypeVar("Result")


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
    num_threads = (os.cpu_count() or 1) if num_threads is None else num_threads
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
