"""A real Uvicorn on loopback, a small application, and clients that take their time."""

import asyncio
import socket
import threading
import time
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor

import pytest
from starlette.applications import Starlette
from starlette.responses import PlainTextResponse, Response, StreamingResponse
from starlette.routing import Route
from uvicorn import Server

from milpath.serving.connection_limits import ConnectionLimits
from tests.slow_clients import HALF_BODY, HALF_HEADERS, SILENT, SlowClients, ask, port_of, running, serving
from tests.waiting import wait_until

# Two seconds: a client on a busy machine may be kept waiting between two of its steps, and is not to be taken for a slow one.
QUICK = ConnectionLimits(
    max_connections=20, header_seconds=2, body_seconds=2, min_bytes_per_second=20_000, write_seconds=0.6,
    keep_alive_seconds=1, end_seconds=2,
)  # fmt: skip
PATIENT = ConnectionLimits(max_connections=20, header_seconds=60, body_seconds=60, keep_alive_seconds=60, end_seconds=2)
SOON = 20  # seconds: half a minute before a patient server would leave anybody


async def _ping(request):
    return Response()


async def _count(request):
    return PlainTextResponse(str(len(await request.body())))


async def _early(request):
    return PlainTextResponse("not read")


async def _wait(request):
    await asyncio.sleep(4)
    return PlainTextResponse("waited")


async def _much(request):
    async def parts():
        for _ in range(50):
            yield bytes(1_000_000)

    return StreamingResponse(parts())


async def _events(request):
    async def events():
        while True:
            yield b"still here\n"
            await asyncio.sleep(0.1)

    return StreamingResponse(events())


APP = Starlette(
    routes=[
        Route("/ping", _ping),
        Route("/invocations", _count, methods=["POST"]),
        Route("/early", _early, methods=["POST"]),
        Route("/wait", _wait),
        Route("/much", _much),
        Route("/events", _events),
    ]
)


@pytest.fixture(scope="module")
def port():
    with serving(APP, QUICK) as port:
        yield port


def _until_closed(connection: socket.socket) -> bytes:
    """Return what the server says until it closes, which it must do soon."""
    connection.settimeout(SOON)
    said = b""
    try:
        while part := connection.recv(65536):
            said += part
    except ConnectionResetError:
        pass
    return said


@pytest.mark.parametrize(
    ("opening", "answer"),
    [
        (SILENT, b""),
        (HALF_HEADERS, b"the headers of the request arrived too slowly"),
        (HALF_BODY, b"the body of the request arrived too slowly"),
    ],
    ids=["silent", "headers", "body"],
)
def test_a_slow_client_is_left_after_its_time_however_it_dribbles(port, opening, answer):
    started = time.monotonic()
    with SlowClients(port, 1, (opening,), seconds=0.1) as slow:
        said = _until_closed(slow.sockets[0])
    assert time.monotonic() - started > 1.5
    if opening:
        assert said.startswith(b"HTTP/1.1 408 Request Timeout\r\n")
        assert b"retry-after: 1\r\n" in said
    assert answer in said


def test_a_body_that_comes_steadily_may_take_longer_than_its_time(port):
    size, parts = 90_000, 30
    with socket.create_connection(("127.0.0.1", port)) as connection:
        connection.sendall(
            f"POST /invocations HTTP/1.1\r\nhost: a\r\nconnection: close\r\ncontent-length: {size}\r\n\r\n".encode()
        )
        for _ in range(parts):  # 30 kB/s for 3 s, where 20 kB/s are asked for over 2 s
            time.sleep(0.1)
            connection.sendall(bytes(size // parts))
        assert _until_closed(connection).endswith(str(size).encode())


def test_a_body_that_came_quickly_and_then_stops_is_not_waited_for(port):
    with socket.create_connection(("127.0.0.1", port)) as connection:
        # A hundred seconds' worth at the lowest rate.
        connection.sendall(
            b"POST /invocations HTTP/1.1\r\nhost: a\r\ncontent-length: 2000000\r\n\r\n" + bytes(1_999_000)
        )
        assert b" 408 " in _until_closed(connection)


def test_bytes_after_an_early_answer_win_no_time(port):
    opening = HALF_BODY.replace(b"/invocations", b"/early")
    with SlowClients(port, 1, (opening,), seconds=0.1) as slow:
        said = _until_closed(slow.sockets[0])
    assert said.endswith(b"not read")
    assert said.count(b"HTTP/1.1") == 1


def test_the_second_request_of_a_connection_has_the_same_time(port):
    with socket.create_connection(("127.0.0.1", port)) as connection:
        connection.sendall(b"GET /ping HTTP/1.1\r\nhost: a\r\n\r\n")
        assert b" 200 " in connection.recv(1000)
        connection.sendall(b"GET /ping HTTP/1.1\r\nhost: a\r\nx: ")
        assert b" 408 " in _until_closed(connection)


def test_a_client_that_does_not_take_its_answer_is_left():
    with running(APP, QUICK) as server, socket.socket() as connection:
        connection.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 4096)
        connection.connect(("127.0.0.1", port_of(server)))
        connection.sendall(b"GET /much HTTP/1.1\r\nhost: a\r\n\r\n")
        wait_until(lambda: len(server.server_state.connections) == 1, SOON)
        wait_until(lambda: not server.server_state.connections, SOON)
        assert 0 < len(_until_closed(connection)) < 50_000_000


def test_a_client_that_waits_for_the_server_has_all_the_time(port):
    assert ask(port, "/wait") == (200, b"waited")


def test_whoever_comes_finds_a_place_while_slow_clients_hold_all():
    with serving(APP, PATIENT) as port, SlowClients(port, 60) as slow:
        for _ in range(10):
            assert ask(port, timeout=SOON) == (200, b"")
            assert ask(port, "/invocations", bytes(300_000), timeout=SOON) == (200, b"300000")
        wait_until(lambda: slow.held() <= PATIENT.max_connections, SOON)
        assert slow.held() > 0


def test_of_all_connections_the_slowest_makes_room():
    with running(APP, PATIENT) as server, SlowClients(port := port_of(server), 1, (HALF_BODY,)) as first:
        wait_until(_has_connections(server, 1), SOON)
        with socket.create_connection(("127.0.0.1", port)) as fair:
            fair.sendall(
                b"POST /invocations HTTP/1.1\r\nhost: a\r\nconnection: close\r\ncontent-length: 300000\r\n\r\n"
                + bytes(100_000)
            )
            wait_until(_has_connections(server, 2), SOON)
            with SlowClients(port, 19, (SILENT,)) as silent:
                wait_until(lambda: first.held() == 0, SOON)  # all have come: it made room for the last of them
                fair.sendall(bytes(100_000))
                assert (silent.held(), ask(port, timeout=SOON)[0]) == (19, 200)
                wait_until(lambda: silent.held() == 18, SOON)
                fair.sendall(bytes(100_000))
                assert _until_closed(fair).endswith(b"300000")


def _has_connections(server: Server, count: int) -> Callable[[], bool]:
    return lambda: len(server.server_state.connections) == count


def test_answers_without_an_end_do_not_keep_others_out():
    opening = b"GET /events HTTP/1.1\r\nhost: a\r\n\r\n"
    with serving(APP, PATIENT) as port, SlowClients(port, 20, (opening,), seconds=60) as streams:
        for stream in streams.sockets:
            assert stream.recv(1000).startswith(b"HTTP/1.1 200 ")
        assert ask(port, timeout=SOON) == (200, b"")


def test_told_to_end_it_waits_for_no_slow_client_and_answers_what_is_in_hand():
    begun = threading.Event()

    async def wait(request):
        begun.set()
        return await _wait(request)

    limits = ConnectionLimits(header_seconds=60, body_seconds=60, end_seconds=60)
    app = Starlette(routes=[Route("/wait", wait), *APP.routes])  # the first of that path answers
    with ThreadPoolExecutor(1) as asker, running(app, limits) as server, SlowClients(port_of(server), 12):
        answer = asker.submit(ask, port_of(server), "/wait", timeout=SOON)
        assert begun.wait(SOON)
        started = time.monotonic()
        server.should_exit = True
        assert answer.result(SOON) == (200, b"waited")
        wait_until(lambda: not server.servers[0].is_serving() and not server.server_state.connections, 2 * SOON)
        assert time.monotonic() - started < 2 * SOON
