import json
import socket
import threading
import time
import urllib.error
import urllib.request

import numpy as np
import pytest
import uvicorn
from starlette.testclient import TestClient

from milpath.sagemaker.app import create_app
from milpath.sagemaker.artifact import write_model_dir
from tests.sagemaker.request_bodies import npy
from tests.sagemaker.test_body import BAD

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
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port = probe.getsockname()[1]
    server = uvicorn.Server(uvicorn.Config(create_app(model_dir), host="127.0.0.1", port=port, log_level="warning"))
    thread = threading.Thread(target=server.run, daemon=True)
    thread.start()
    while not server.started:
        time.sleep(0.02)
    yield f"http://127.0.0.1:{port}"
    server.should_exit = True
    thread.join(10)


def post(address, body, headers):
    request = urllib.request.Request(f"{address}/invocations", data=body, headers=headers)
    with urllib.request.urlopen(request, timeout=30) as answer:
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
        urllib.request.urlopen(request, timeout=30)
    assert caught.value.code == 413
    assert "send an s3_uri" in json.loads(caught.value.read())["error"]
    assert np.isfinite(caught.value.code)
