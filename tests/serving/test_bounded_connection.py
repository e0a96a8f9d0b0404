"""A real Uvicorn on loopback, a small application, and clients that take their time."""

import asyncio
import socket
import threading
import time
from concurrent.futures import ThreadPoolExecutor

import pytest
from starlette.applications import Starlette
from starlette.responses import PlainTextResponse, Response, StreamingResponse
from starlette.routing import Route

from milpath.serving.connection_limits import ConnectionLimits
from milpath.serving.uvicorn_server import make_server
from tests.slow_clients import HALF_BODY, HALF_HEADERS, SILENT, SlowClients, ask, free_port, serving

QUICK = ConnectionLimits(
    max_connections=20, header_seconds=0.6, body_seconds=0.6, min_bytes_per_second=20_000, write_seconds=0.6,
    keep_alive_seconds=1, end_seconds=2,
)  # fmt: skip
PATIENT = ConnectionLimits(max_connections=20, header_seconds=30, body_seconds=30, keep_alive_seconds=30, end_seconds=2)


async def _ping(request):
    return Response()


async def _count(request):
    return PlainTextResponse(str(len(await request.body())))


async def _early(request):
    return PlainTextResponse("not read")


async def _wait(request):
    await asyncio.sleep(2)
    return PlainTextResponse("waited")


async def _much(request):
    return Response(bytes(50_000_000))


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


def _until_closed(connection: socket.socket) -> tuple[bytes, float]:
    """Return what the server says until it closes, and after how many seconds it does."""
    connection.settimeout(10)
    started, said = time.monotonic(), b""
    try:
        while part := connection.recv(65536):
            said += part
    except ConnectionResetError:
        pass
    return said, time.monotonic() - started


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
    with SlowClients(port, 1, (opening,), seconds=0.1) as slow:
        said, seconds = _until_closed(slow.sockets[0])
    assert 0.3 < seconds < 3
    if opening:
        assert said.startswith(b"HTTP/1.1 408 Request Timeout\r\n")
        assert b"retry-after: 1\r\n" in said
    assert answer in said


def test_a_body_that_comes_steadily_may_take_longer_than_its_time(port):
    size, parts = 60_000, 20
    with socket.create_connection(("127.0.0.1", port)) as connection:
        connection.sendall(
            f"POST /invocations HTTP/1.1\r\nhost: a\r\nconnection: close\r\ncontent-length: {size}\r\n\r\n".encode()
        )
        for _ in range(parts):  # 30 kB/s for 2 s, where 20 kB/s are asked for over 0.6 s
            time.sleep(0.1)
            connection.sendall(bytes(size // parts))
        assert _until_closed(connection)[0].endswith(b"60000")


def test_a_body_that_came_quickly_and_then_stops_is_not_waited_for(port):
    with socket.create_connection(("127.0.0.1", port)) as connection:
        connection.sendall(b"POST /invocations HTTP/1.1\r\nhost: a\r\ncontent-length: 200000\r\n\r\n" + bytes(199_000))
        said, seconds = _until_closed(connection)
    assert b" 408 " in said
    assert seconds < 3


def test_bytes_after_an_early_answer_win_no_time(port):
    opening = HALF_BODY.replace(b"/invocations", b"/early")
    with SlowClients(port, 1, (opening,), seconds=0.1) as slow:
        said, seconds = _until_closed(slow.sockets[0])
    assert said.endswith(b"not read")
    assert said.count(b"HTTP/1.1") == 1
    assert seconds < 3


def test_the_second_request_of_a_connection_has_the_same_time(port):
    with socket.create_connection(("127.0.0.1", port)) as connection:
        connection.sendall(b"GET /ping HTTP/1.1\r\nhost: a\r\n\r\n")
        assert b" 200 " in connection.recv(1000)
        connection.sendall(b"GET /ping HTTP/1.1\r\nhost: a\r\nx: ")
        said, seconds = _until_closed(connection)
    assert b" 408 " in said
    assert seconds < 3


def test_a_client_that_does_not_take_its_answer_is_left(port):
    with socket.socket() as connection:
        connection.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 4096)
        connection.connect(("127.0.0.1", port))
        connection.sendall(b"GET /much HTTP/1.1\r\nhost: a\r\n\r\n")
        time.sleep(2)
        said, _ = _until_closed(connection)
    assert 0 < len(said) < 50_000_000


def test_a_client_that_waits_for_the_server_has_all_the_time(port):
    assert ask(port, "/wait") == (200, b"waited")


def test_whoever_comes_finds_a_place_while_slow_clients_hold_all():
    with serving(APP, PATIENT) as port, SlowClients(port, 60) as slow:
        for _ in range(10):
            assert ask(port, timeout=2) == (200, b"")
            assert ask(port, "/invocations", bytes(300_000), timeout=2) == (200, b"300000")
        time.sleep(0.2)
        assert 0 < slow.held() <= PATIENT.max_connections


def test_of_all_connections_the_slowest_makes_room():
    with serving(APP, PATIENT) as port, SlowClients(port, 1, (HALF_BODY,)) as first:
        time.sleep(0.2)
        with socket.create_connection(("127.0.0.1", port)) as fair:
            fair.sendall(
                b"POST /invocations HTTP/1.1\r\nhost: a\r\nconnection: close\r\ncontent-length: 300000\r\n\r\n"
                + bytes(100_000)
            )
            time.sleep(0.2)
            with SlowClients(port, 19, (SILENT,)):
                time.sleep(0.2)
                fair.sendall(bytes(100_000))
                assert (first.held(), ask(port, timeout=2)[0]) == (0, 200)
                fair.sendall(bytes(100_000))
                assert _until_closed(fair)[0].endswith(b"300000")


def test_answers_without_an_end_do_not_keep_others_out():
    opening = b"GET /events HTTP/1.1\r\nhost: a\r\n\r\n"
    with serving(APP, PATIENT) as port, SlowClients(port, 20, (opening,), seconds=60):
        time.sleep(0.3)
        assert ask(port, timeout=2) == (200, b"")


def test_told_to_end_it_waits_for_no_slow_client_and_answers_what_is_in_hand():
    limits = ConnectionLimits(header_seconds=60, body_seconds=60, end_seconds=30)
    server = make_server(APP, limits, port=(port := free_port()), log_level="critical")
    thread = threading.Thread(target=server.run, daemon=True)
    thread.start()
    while not server.started:
        time.sleep(0.02)
    with SlowClients(port, 12), ThreadPoolExecutor(1) as asker:
        answer = asker.submit(ask, port, "/wait")
        time.sleep(0.5)
        started = time.monotonic()
        server.should_exit = True
        assert answer.result(10) == (200, b"waited")
        thread.join(20)
        assert not thread.is_alive()
        assert time.monotonic() - started < 10
