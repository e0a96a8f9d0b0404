"""Clients that hold a connection and never finish: they say nothing, half a header, or half a body, a byte at a time."""

import contextlib
import http.client
import itertools
import random
import select
import socket
import threading
import time
from collections.abc import Iterator

from starlette.types import ASGIApp
from uvicorn import Server

from milpath.serving.connection_limits import ConnectionLimits
from milpath.serving.uvicorn_server import make_server
from tests.waiting import wait_until

SILENT = b""
HALF_HEADERS = b"POST /invocations HTTP/1.1\r\nhost: a\r\nx-long: "
HALF_BODY = b"POST /invocations HTTP/1.1\r\nhost: a\r\ncontent-type: application/x-npy\r\ncontent-length: 1000000\r\n\r\n\x93NUMPY"
KINDS = (SILENT, HALF_HEADERS, HALF_BODY)


class SlowClients:
    """Connections that are kept busy by a thread; use as a context manager.

    Args:
        port: Of a server on loopback.
        count: Connections, in turn of each kind.
        kinds: What each sends at first; all but the silent ones then send a byte every `seconds`.
        seconds: Between two bytes.
    """

    def __init__(self, port: int, count: int, kinds: tuple[bytes, ...] = KINDS, seconds: float = 0.2) -> None:
        self.sockets: list[socket.socket] = []
        self._talking: list[socket.socket] = []
        for opening in itertools.islice(itertools.cycle(kinds), count):
            connection = socket.create_connection(("127.0.0.1", port), timeout=10)
            if opening:
                with contextlib.suppress(OSError):
                    connection.sendall(opening)
                self._talking.append(connection)
            self.sockets.append(connection)
        self._ended = threading.Event()
        self._thread = threading.Thread(target=self._dribble, args=(seconds,), daemon=True)

    def __enter__(self) -> "SlowClients":
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._ended.set()
        self._thread.join(10)
        for connection in self.sockets:
            connection.close()

    def _dribble(self, seconds: float) -> None:
        while not self._ended.wait(seconds):
            for connection in self._talking:
                with contextlib.suppress(OSError):
                    connection.send(b"1")

    def held(self) -> int:
        """Return how many connections the server has not ended."""
        return sum(not _is_ended(connection) for connection in self.sockets)

    def wait_until_ended(self, seconds: float) -> float:
        """Return after how many seconds the server had ended all connections, at most `seconds`."""
        started = time.monotonic()
        while self.held() and time.monotonic() - started < seconds:
            time.sleep(0.05)
        return time.monotonic() - started


def _is_ended(connection: socket.socket) -> bool:
    """Return whether the server closed it; what it said before is read."""
    try:
        while select.select([connection], [], [], 0)[0]:
            if not connection.recv(4096):
                return True
    except OSError:
        return True
    return False


def ask(
    port: int, path: str = "/ping", body: bytes | None = None, timeout: float = 10.0, **headers: str
) -> tuple[int, bytes]:
    """Return status and body of an answer; a connection of its own each time.

    Args:
        port: Of a server on loopback.
        path: What is asked for.
        body: None asks with GET.
        timeout: Seconds.
        headers: With `_` for `-`.
    """
    connection = http.client.HTTPConnection("127.0.0.1", port, timeout=timeout)
    with contextlib.closing(connection):
        named = {name.replace("_", "-"): value for name, value in headers.items()}
        connection.request("GET" if body is None else "POST", path, body, named)
        answer = connection.getresponse()
        return answer.status, answer.read()


def free_port() -> int:
    """Return a port of loopback for a process that takes some time to bind it.

    It lies below those that Linux gives to outgoing connections and to whoever binds port 0, so that nobody is given it meanwhile.
    """
    draw = random.SystemRandom()  # tests seed the other one, in every process alike
    while True:
        port = draw.randrange(20_000, 32_000)
        with contextlib.suppress(OSError), socket.socket() as probe:
            probe.bind(("127.0.0.1", port))
            return port


@contextlib.contextmanager
def running(app: ASGIApp, limits: ConnectionLimits) -> Iterator[Server]:
    """Serve on loopback in a thread; gives the server."""
    # The server binds a free port itself: one that is looked up before may be taken by another process meanwhile.
    server = make_server(app, limits, port=0, log_level="critical")
    thread = threading.Thread(target=server.run, daemon=True)
    thread.start()
    try:
        wait_until(lambda: server.started or not thread.is_alive())
        yield server
    finally:
        server.should_exit = True
        thread.join(10 + limits.end_seconds)
        assert not thread.is_alive(), "the server did not end"


@contextlib.contextmanager
def serving(app: ASGIApp, limits: ConnectionLimits) -> Iterator[int]:
    """Serve on loopback in a thread; gives the port."""
    with running(app, limits) as server:
        yield port_of(server)


def port_of(server: Server) -> int:
    """Return the port that a running server listens on."""
    port: int = server.servers[0].sockets[0].getsockname()[1]
    return port
