"""HTTP connections with timeouts for slow clients, which Uvicorn does not have. Needs uvicorn."""

import asyncio
import json
from enum import Enum
from http import HTTPStatus
from typing import Any, cast

import h11
from uvicorn.protocols.http.h11_impl import H11Protocol

from milpath.serving.connection_limits import ConnectionLimits

_SECONDS_TO_END_A_BODY = 3.0
_RETRY_AFTER_SECONDS = 1


class _WaitsFor(Enum):
    """What the server is waiting for; NOTHING while the client waits for the server."""

    HEADERS = "headers"
    BODY = "body"
    READING = "reading"
    NOTHING = "nothing"


def bounded_connection(limits: ConnectionLimits) -> type[asyncio.Protocol]:
    """Return the protocol class to pass to Uvicorn as `http=`.

    Args:
        limits: Timeouts and the maximum number of connections.
    """
    return cast(type[asyncio.Protocol], type("BoundedConnection", (_BoundedConnection,), {"limits": limits}))


class _BoundedConnection(H11Protocol):
    """Uvicorn's connection with a deadline for the client's next action.

    Each received byte of a body extends the deadline by the time it may take, at most to `body_seconds` from now. If a new
    connection exceeds the maximum, the one with the earliest deadline is closed: never one that sends at a sufficient rate
    while others are slow.
    """

    limits: ConnectionLimits

    def __init__(self, *words: Any, **options: Any) -> None:
        super().__init__(*words, **options)
        self._waits_for = _WaitsFor.NOTHING
        self._deadline = float("inf")
        self._last_deadline = float("inf")
        self._since = self.loop.time()
        self._timer: asyncio.TimerHandle | None = None
        self._began = False
        self._is_ending = False

    def connection_made(self, transport: asyncio.Transport) -> None:  # type: ignore[override]
        """Start waiting for headers, and close another connection if there are too many."""
        super().connection_made(transport)
        self._wait(_WaitsFor.HEADERS, self.limits.header_seconds)
        open_ones = [other for other in self.connections if not other.transport.is_closing()]
        if len(open_ones) > self.limits.max_connections:
            self._make_room(
                [other for other in open_ones if other is not self and isinstance(other, _BoundedConnection)]
            )

    def connection_lost(self, exc: Exception | None) -> None:
        """Stop waiting."""
        super().connection_lost(exc)
        self._waits_for, self._deadline = _WaitsFor.NOTHING, float("inf")
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None

    def data_received(self, data: bytes) -> None:
        """Handle received bytes, and update the deadline."""
        before = self.cycle
        super().data_received(data)
        if self.transport.is_closing():
            return
        if self._waits_for is _WaitsFor.HEADERS:
            self._began = True
        if self._waits_for is _WaitsFor.BODY and self.cycle is before and self.cycle.more_body:
            self._move_deadline(len(data))
        else:
            self._look_again()

    def on_response_complete(self) -> None:
        """Wait for the next request, or for the client to read the rest of the response."""
        super().on_response_complete()
        self._look_again()

    def pause_writing(self) -> None:
        """Wait for the client to read what was written."""
        super().pause_writing()
        self._wait(_WaitsFor.READING, self.limits.write_seconds)

    def resume_writing(self) -> None:
        """Continue after the client has read part of it."""
        super().resume_writing()
        self._waits_for, self._deadline = _WaitsFor.NOTHING, float("inf")
        self._look_again()

    def shutdown(self) -> None:
        """Close the connection if it is idle; a body that is still arriving gets a short grace period."""
        super().shutdown()
        self._is_ending = True
        if self._waits_for in (_WaitsFor.BODY, _WaitsFor.READING):
            seconds = min(_SECONDS_TO_END_A_BODY, self.limits.end_seconds / 2)
            self._last_deadline = self.loop.time() + seconds
            self._move_deadline(0)

    def _make_room(self, others: list["_BoundedConnection"]) -> None:
        """Close the connection with the earliest deadline, or this one if all others wait for their first response."""
        # An open-ended response, such as an event stream, is closed only if no client is slow.
        able = [other for other in others if other._deadline < float("inf") or other.cycle.response_started]
        ended = min(able, key=lambda other: (other._deadline, other._since), default=self)
        ended._end(HTTPStatus.SERVICE_UNAVAILABLE, "the server has too many connections; retry later")

    def _look_again(self) -> None:
        """Set a new deadline if the state of the request has changed."""
        if self._waits_for is _WaitsFor.READING:
            return
        if self.cycle is None or self.cycle.response_complete:
            # Bytes of a header, or of a body that was answered before it was complete, do not extend the deadline.
            if self._waits_for is not _WaitsFor.HEADERS:
                self._began = False
                self._wait(_WaitsFor.HEADERS, self.limits.header_seconds)
        elif self.cycle.more_body:
            self._wait(_WaitsFor.BODY, self.limits.body_seconds)
        elif self._waits_for is not _WaitsFor.NOTHING:
            self._waits_for, self._deadline, self._since = _WaitsFor.NOTHING, float("inf"), self.loop.time()

    def _wait(self, what: _WaitsFor, seconds: float) -> None:
        """Set what to wait for, and its deadline."""
        self._waits_for, self._deadline = what, self.loop.time() + seconds
        self._move_deadline(0)

    def _move_deadline(self, received: int) -> None:
        """Extend the deadline by the time that the received bytes of a body may take."""
        moved = self._deadline + received / self.limits.min_bytes_per_second
        if received:
            moved = min(moved, self.loop.time() + self.limits.body_seconds)
        self._deadline = min(moved, self._last_deadline)
        if self._timer is not None and self._timer.when() > self._deadline:
            self._timer.cancel()
            self._timer = None
        if self._timer is None:
            self._timer = self.loop.call_at(self._deadline, self._on_timer)

    def _on_timer(self) -> None:
        """Close the connection if its deadline has passed."""
        self._timer = None
        if self._waits_for is _WaitsFor.NOTHING:
            return
        if self._waits_for is _WaitsFor.BODY and self.flow.read_paused and not self._is_ending:
            # Reading is paused: the server is slow, not the client.
            self._wait(_WaitsFor.BODY, self.limits.body_seconds)
        elif self.loop.time() < self._deadline:
            self._timer = self.loop.call_at(self._deadline, self._on_timer)
        else:
            self._end(HTTPStatus.REQUEST_TIMEOUT, f"the {self._waits_for.value} of the request arrived too slowly")

    def _end(self, status: HTTPStatus, why: str) -> None:
        """Close the connection, with an error response if the client can still receive one."""
        unanswered = self.cycle is None or self.cycle.response_complete or not self.cycle.response_started
        asked = self._waits_for is _WaitsFor.BODY or (
            self._waits_for is _WaitsFor.HEADERS and self._began and self.conn.their_state is h11.IDLE
        )
        # abort() drops unsent data; close() would wait for the client to read it.
        if not (unanswered and asked) or self.transport.get_write_buffer_size() or self.transport.is_closing():
            self.transport.abort()
            return
        body = json.dumps({"error": why}).encode()
        self.transport.write(
            f"HTTP/1.1 {status.value} {status.phrase}\r\ncontent-type: application/json\r\nconnection: close\r\n"
            f"retry-after: {_RETRY_AFTER_SECONDS}\r\ncontent-length: {len(body)}\r\n\r\n".encode()
            + body
        )
        self.transport.close()
