import json
import os
import signal
import socket
import subprocess
import sys
import threading
import time
import urllib.error
import urllib.request
from concurrent.futures import ThreadPoolExecutor

import numpy as np
import pytest
from starlette.testclient import TestClient

from milpath.sagemaker import serve
from milpath.sagemaker.endpoint.handlers import Endpoint
from milpath.sagemaker.jobs.model_archive import write_model_dir
from milpath.sagemaker.serve import create_app, main
from milpath.serving.connection_limits import ConnectionLimits
from milpath.serving.work_queue import WorkQueue
from tests.sagemaker.endpoint.test_request_body import BAD
from tests.sagemaker.request_bodies import npy
from tests.slow_clients import HALF_BODY, SlowClients, ask, free_port, serving

NPY = {"content-type": "application/x-npy"}


@pytest.fixture(scope="module")
def model_dir(network_path, tmp_path_factory):
    folder = tmp_path_factory.mktemp("model")
    write_model_dir(network_path, folder)
    return folder


@pytest.fixture(scope="module")
def client(model_dir):
    with TestClient(create_app(model_dir), raise_server_exceptions=False) as client:
        yield client


def test_ping_says_200_only_when_the_network_is_loaded(model_dir, tiles):
    app = create_app(model_dir)
    before = TestClient(app)
    assert before.get("/ping").status_code == 503
    assert before.post("/invocations", content=npy(tiles), headers=NPY).status_code == 503
    with TestClient(app) as started:
        assert started.get("/ping").status_code == 200
    assert before.get("/ping").status_code == 503


def test_a_server_without_a_network_does_not_start(tmp_path):
    with pytest.raises(FileNotFoundError, match=r"network.pt is missing"), TestClient(create_app(tmp_path)):
        pass


def test_the_answer_is_the_endpoints(client, endpoint, tiles):
    answer = client.post("/invocations", content=npy(tiles), headers=NPY)
    assert answer.status_code == 200
    assert answer.headers["content-type"] == "application/json"
    assert answer.content == endpoint.answer(npy(tiles), "application/x-npy")[0]
    answer = client.post("/invocations", content=npy(tiles), headers=NPY | {"accept": "application/x-npz"})
    assert answer.headers["content-type"] == "application/x-npz"


@pytest.mark.parametrize("kind", BAD)
def test_a_bad_body_gets_its_status_and_one_line(client, kind):
    body, content_type, status, message = BAD[kind]
    answer = client.post("/invocations", content=body, headers={"content-type": content_type})
    assert answer.status_code == status
    error = answer.json()["error"]
    if kind != "50 MB" and kind != "too long":
        assert message in error
    assert "\n" not in error
    assert "Traceback" not in error


def test_nothing_else_is_served(client):
    assert client.get("/docs").status_code == 404
    assert client.get("/openapi.json").status_code == 404
    assert client.get("/invocations").status_code == 405


@pytest.fixture(scope="module")
def address(model_dir):
    """The real server on loopback."""
    with serving(create_app(model_dir), ConnectionLimits()) as port:
        yield f"http://127.0.0.1:{port}"


def post(address, body, headers):
    request = urllib.request.Request(f"{address}/invocations", data=body, headers=headers)
    with urllib.request.urlopen(request, timeout=90) as answer:
        return json.loads(answer.read())


def test_many_clients_at_a_time_get_their_own_answers(address, endpoint, tiles):
    bodies = [npy(tiles[: 1 + number % 5]) for number in range(24)]
    found = [None] * len(bodies)

    def ask(number):
        found[number] = post(address, bodies[number], NPY)

    threads = [threading.Thread(target=ask, args=(number,)) for number in range(len(bodies))]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(60)
    for number, body in enumerate(bodies):
        assert found[number] == json.loads(endpoint.answer(body, "application/x-npy")[0])


def test_a_client_that_leaves_in_the_middle_harms_nobody(address, tiles):
    host, _, port = address.removeprefix("http://").partition(":")
    for _ in range(3):
        with socket.create_connection((host, int(port))) as connection:
            connection.sendall(b"POST /invocations HTTP/1.1\r\nhost: a\r\ncontent-length: 1000000\r\n\r\nabc")
    with socket.create_connection((host, int(port))) as connection:
        connection.sendall(b"\x16\x03\x01 no HTTP at all\r\n\r\n")
        assert b" 400 " in connection.recv(1000)
    assert len(post(address, npy(tiles), NPY)["predictions"]) == 1


def test_a_body_that_announces_less_than_it_is_long_is_cut_off_by_the_limit(address):
    request = urllib.request.Request(f"{address}/invocations", data=bytes(7_000_000), headers=NPY)
    with pytest.raises(urllib.error.HTTPError) as caught:
        urllib.request.urlopen(request, timeout=90)
    assert caught.value.code == 413
    assert "send an s3_uri" in json.loads(caught.value.read())["error"]
    assert np.isfinite(caught.value.code)


class Held:
    """An endpoint whose computations wait until they are let go, and are counted."""

    def __init__(self, monkeypatch):
        self.go, self.bodies = threading.Event(), []
        answer, queues = Endpoint.answer, []

        class Watched(WorkQueue):
            def __init__(self, *words):
                super().__init__(*words)
                queues.append(self)

        def held(endpoint, body, *words):
            self.bodies.append(body)
            assert self.go.wait(120)
            return answer(endpoint, body, *words)

        monkeypatch.setattr(Endpoint, "answer", held)
        monkeypatch.setattr(serve, "WorkQueue", Watched)
        self.queues = queues

    def wait_for(self, count):
        """Wait until so many are computed."""
        self._wait_until(lambda: len(self.bodies) == count)

    def wait_for_queue(self, count):
        """Wait until so many are computed or wait for their turn."""
        self._wait_until(lambda: self.queues[-1]._held == count)

    def _wait_until(self, ready):
        deadline = time.monotonic() + 60
        while not ready() and time.monotonic() < deadline:
            time.sleep(0.01)
        assert ready()


@pytest.fixture
def held(monkeypatch):
    held = Held(monkeypatch)
    yield held
    held.go.set()


def test_two_hundred_slow_clients_take_nothing_from_others(model_dir, endpoint, tiles):
    limits = ConnectionLimits(header_seconds=10, body_seconds=10)
    expected = endpoint.answer(npy(tiles), "application/x-npy")
    with serving(create_app(model_dir), limits) as port, SlowClients(port, 200) as slow:
        times = []
        for _ in range(10):
            started = time.monotonic()
            assert ask(port) == (200, b"")
            times.append(time.monotonic() - started)
            assert ask(port, "/invocations", npy(tiles), content_type="application/x-npy") == (200, expected[0])
        # SageMaker waits two seconds, of which this takes hundredths; behind slow clients it would take ten.
        assert max(times) < 5
        assert slow.held() <= limits.max_connections
        assert slow.wait_until_ended(60) < 60
        assert ask(port) == (200, b"")


def test_ping_is_answered_while_the_queue_is_full_and_one_request_more_is_told_when_to_come(model_dir, tiles, held):
    app = create_app(model_dir, max_waiting=2)
    with serving(app, ConnectionLimits()) as port, ThreadPoolExecutor(3) as clients:
        asked = [clients.submit(ask, port, "/invocations", npy(tiles), 90, content_type="application/x-npy")]
        held.wait_for(1)
        asked += [
            clients.submit(ask, port, "/invocations", npy(tiles), 90, content_type="application/x-npy")
            for _ in range(2)
        ]
        request = urllib.request.Request(f"http://127.0.0.1:{port}/invocations", npy(tiles), NPY)
        held.wait_for_queue(3)
        with pytest.raises(urllib.error.HTTPError) as caught:
            urllib.request.urlopen(request, timeout=30)
        assert caught.value.code == 503
        assert int(caught.value.headers["retry-after"]) >= 1
        assert json.loads(caught.value.read())["error"].startswith("2 requests are already waiting; retry in ")
        assert ask(port, timeout=30) == (200, b"")
        held.go.set()
        assert [each.result(60)[0] for each in asked] == [200] * 3
        assert ask(port, "/invocations", npy(tiles), content_type="application/x-npy")[0] == 200


def test_a_request_whose_client_has_left_is_not_computed(model_dir, tiles, held):
    with serving(create_app(model_dir), ConnectionLimits()) as port, ThreadPoolExecutor(1) as clients:
        first = clients.submit(ask, port, "/invocations", npy(tiles), 90, content_type="application/x-npy")
        held.wait_for(1)
        for count in range(1, 5):
            body = npy(tiles[:count])
            with socket.create_connection(("127.0.0.1", port)) as connection:
                head = f"POST /invocations HTTP/1.1\r\nhost: a\r\ncontent-type: application/x-npy\r\ncontent-length: {len(body)}"
                connection.sendall(head.encode() + b"\r\n\r\n" + body)
                held.wait_for_queue(2)
            held.wait_for_queue(1)
        held.go.set()
        assert first.result(60)[0] == 200
        assert ask(port, "/invocations", npy(tiles), content_type="application/x-npy")[0] == 200
    assert held.bodies == [npy(tiles), npy(tiles)]


def test_told_to_end_a_request_that_takes_too_long_is_told_to_ask_again(model_dir, tiles, held):
    with ThreadPoolExecutor(2) as clients:
        with serving(create_app(model_dir), ConnectionLimits(end_seconds=1)) as port:
            asked = [
                clients.submit(ask, port, "/invocations", npy(tiles), 90, content_type="application/x-npy")
                for _ in range(2)
            ]
            held.wait_for(1)
            held.wait_for_queue(2)
        for each in asked:
            status, body = each.result(60)
            assert (status, json.loads(body)) == (503, {"error": "the server is shutting down; retry later"})


def _wait_for(port, process, errors):
    deadline = time.monotonic() + 300
    while time.monotonic() < deadline and process.poll() is None:
        try:
            return ask(port, timeout=30)[0]
        except OSError:
            time.sleep(0.1)
    raise AssertionError(errors.read_text())


def test_the_command_takes_host_and_port_and_ends_in_time_with_slow_bodies_in_hand(model_dir, tmp_path):
    port, errors = free_port(), tmp_path / "errors.txt"
    words = ["serve", str(model_dir), "host=127.0.0.1", f"port={port}"]
    with errors.open("w") as file:
        process = subprocess.Popen(
            [sys.executable, "-m", "milpath.sagemaker.serve", *words],
            env=os.environ | {"SAGEMAKER_BIND_TO_PORT": "1"}, stderr=file,
        )  # fmt: skip
    try:
        assert _wait_for(port, process, errors) == 200
        with SlowClients(port, 5, (HALF_BODY,)):
            time.sleep(0.3)
            process.send_signal(signal.SIGTERM)
            started = time.monotonic()
            assert process.wait(30) == 0
            assert time.monotonic() - started < 15
    finally:
        process.kill()
        process.wait()
    assert f"http://127.0.0.1:{port}" in errors.read_text()
    assert "Traceback" not in errors.read_text()


@pytest.mark.parametrize(
    ("words", "variables", "expected"),
    [
        (["port=http"], {}, "argument --port: invalid int value: 'http'"),
        ([], {"SAGEMAKER_BIND_TO_PORT": "http"}, "argument --port: invalid int value: 'http'"),
        ([], {"MILPATH_HEADER_SECONDS": "-1"}, "MILPATH_HEADER_SECONDS=-1 must be a positive number"),
        ([], {"MILPATH_MAX_WAITING": "1.5"}, "MILPATH_MAX_WAITING=1.5 must be a positive integer"),
        ([], {"MILPATH_MAX_CONNECTIONS": "32"}, "MILPATH_MAX_CONNECTIONS=32 must be at least 8 more than MILPATH_MAX_WAITING=32"),
    ],
)  # fmt: skip
def test_a_mistake_of_the_command_is_said(words, variables, expected, monkeypatch, capsys):
    monkeypatch.setattr(sys, "argv", ["app", *words])
    for name, value in variables.items():
        monkeypatch.setenv(name, value)
    with pytest.raises(SystemExit) as caught:
        main()
    said = capsys.readouterr().err + str(caught.value)
    assert expected in said
    assert caught.value.code != 0
