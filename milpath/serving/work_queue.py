"""A bounded work queue that drops waiting requests when their client disconnects. Needs anyio."""

import math
import time
from collections.abc import Awaitable, Callable, MutableMapping
from typing import Any, Generic, TypeVar

import anyio
from anyio.to_thread import run_sync

Receive = Callable[[], Awaitable[MutableMapping[str, Any]]]
Result = TypeVar("Result")

_MAX_RETRY_AFTER_SECONDS = 60


class QueueFullError(Exception):
    """The queue is full."""


class ClientLeftError(Exception):
    """The client disconnected before its result was ready."""


class WorkQueue(Generic[Result]):
    """Run functions in threads, a limited number at a time.

    A running function cannot be stopped. A waiting one is dropped as soon as its client disconnects.

    Args:
        workers: Number of functions running at a time.
        max_waiting: Number of functions that may wait in addition.
    """

    def __init__(self, workers: int, max_waiting: int) -> None:
        self._workers = workers
        self._turns = anyio.CapacityLimiter(workers)
        self._room = workers + max_waiting
        self._held = 0
        self._seconds = 1.0

    @property
    def retry_after(self) -> int:
        """Estimated seconds until the queue has room, from its length and the duration of recent calls."""
        return min(_MAX_RETRY_AFTER_SECONDS, max(1, math.ceil(self._seconds * self._held / self._workers)))

    async def run(self, function: Callable[[], Result], receive: Receive) -> Result:
        """Run a function when its turn comes, and return its result.

        Args:
            function: The function to run in a thread.
            receive: `receive` of the request, whose body has been read: its next message is the disconnect.

        Raises:
            QueueFullError: Immediately, if the queue is full.
            ClientLeftError: If the client disconnected meanwhile.
        """
        if self._held >= self._room:
            raise QueueFullError
        self._held += 1
        outcome: list[Result] = []
        failure: Exception | None = None
        try:
            async with anyio.create_task_group() as group:
                group.start_soon(_cancel_when_left, receive, group.cancel_scope)
                try:
                    outcome.append(await run_sync(self._timed, function, limiter=self._turns))
                except Exception as error:  # re-raised unchanged, not in the task group's exception group
                    failure = error
                group.cancel_scope.cancel()
        finally:
            self._held -= 1
        if failure is not None:
            raise failure
        if not outcome:
            raise ClientLeftError
        return outcome[0]

    def _timed(self, function: Callable[[], Result]) -> Result:
        """Run the function and update the estimate of its duration."""
        started = time.monotonic()
        try:
            return function()
        finally:
            self._seconds += 0.2 * (time.monotonic() - started - self._seconds)


async def _cancel_when_left(receive: Receive, scope: anyio.CancelScope) -> None:
    """Cancel a scope as soon as the client disconnects."""
    while (await receive())["type"] != "http.disconnect":
        pass
    scope.cancel()
