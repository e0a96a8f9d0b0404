"""Requests wait for their turn: not too many, and not those whose client has left. Needs anyio."""

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
    """There is no room in the queue."""


class ClientLeftError(Exception):
    """The client left before its answer was there."""


class WorkQueue(Generic[Result]):
    """Runs functions in threads, a few at a time.

    A function that runs cannot be stopped: torch has no such thing. One that waits is dropped as soon as its client leaves.

    Args:
        workers: Functions that run at a time.
        max_waiting: Others that may wait for their turn.
    """

    def __init__(self, workers: int, max_waiting: int) -> None:
        self._workers = workers
        self._turns = anyio.CapacityLimiter(workers)
        self._room = workers + max_waiting
        self._held = 0
        self._seconds = 1.0

    @property
    def retry_after(self) -> int:
        """Seconds after which there should be room: what waits, at the pace of the last answers."""
        return min(_MAX_RETRY_AFTER_SECONDS, max(1, math.ceil(self._seconds * self._held / self._workers)))

    async def run(self, function: Callable[[], Result], receive: Receive) -> Result:
        """Return what the function returns, in its turn.

        Args:
            function: Runs in a thread.
            receive: Of the request, whose body was read: its next message is that the client left.

        Raises:
            QueueFullError: At once, if there is no room.
            ClientLeftError: If the client left meanwhile.
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
                except Exception as error:  # as it is, not in the group that the task group would make of it
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
        """Run the function and keep in mind how long such a thing takes."""
        started = time.monotonic()
        try:
            return function()
        finally:
            self._seconds += 0.2 * (time.monotonic() - started - self._seconds)


async def _cancel_when_left(receive: Receive, scope: anyio.CancelScope) -> None:
    """Cancel a scope as soon as the client leaves."""
    while (await receive())["type"] != "http.disconnect":
        pass
    scope.cancel()
