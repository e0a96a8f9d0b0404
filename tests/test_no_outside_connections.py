"""Nothing that is learned from slides leaves the machine, and no command tells anybody that it runs: seen on the wire.

Each command runs for a user who has set no variable against telemetry; strace sees every connection of it and of its children.
"""

import json
import signal
import subprocess
import sys
import time

import pytest
import torch

from milpath.models import AttentionMIL, save_network
from milpath.sagemaker.jobs.model_archive import write_model_dir
from tests.commands import SMALL_RUN
from tests.pyramids import tissue, write_pyramid
from tests.slow_clients import ask, free_port
from tests.traced import addresses, environment, of_line, outside, tracer
from tests.viewer.test_page_in_browser import FILE, App

TRAIN = [
    *(word for word in SMALL_RUN if not word.startswith(("logger", "report"))),
    "trainer.max_epochs=1",
    "run_name=silent",
]
COMMANDS = {
    "train, with a report, TensorBoard, and MLflow in a file": [
        "train",
        *TRAIN,
        "logger=[tensorboard,mlflow]",
        "report=true",
    ],
    "train, in two processes": ["train", *TRAIN, "trainer=ddp", "trainer.accelerator=cpu", "trainer.devices=2"],
    "train, with Weights & Biases offline": ["train", *TRAIN, "logger=wandb", "logger.wandb.offline=true"],
    "tile": ["tile", "slides=slides", "output=tiled", "tile_size=16", "num_workers=2"],
    "predict": ["predict", "checkpoint=network.pt", "slides=slides", "output=predicted", "num_workers=2"],
}


@pytest.fixture(scope="module")
def network_path(tmp_path_factory):
    path = tmp_path_factory.mktemp("network") / "network.pt"
    torch.manual_seed(0)
    network = AttentionMIL(encoder={"name": "tile_cnn", "tile_size": 16, "embedding_dim": 8})
    tiling = {"method": "darkest", "tile_size": 16, "num_tiles": 6, "level": -1}
    save_network(network, path, class_names=("benign", "malignant"), tiling=tiling)
    return path


@pytest.mark.slow
@pytest.mark.parametrize("name", COMMANDS)
def test_a_command_turns_to_nobody_outside_this_machine(name, network_path, tmp_path):
    (tmp_path / "network.pt").write_bytes(network_path.read_bytes())
    for number in range(2):
        write_pyramid(tmp_path / f"slides/{number}.tiff", tissue(80, 60, number))
    command, *words = COMMANDS[name]
    process = subprocess.Popen(
        [*tracer(tmp_path / "trace"), sys.executable, "-m", f"milpath.{command}", *words],
        cwd=tmp_path, env=environment(tmp_path), stdout=subprocess.DEVNULL, stderr=subprocess.PIPE, text=True,
    )  # fmt: skip
    _, said = process.communicate(timeout=600)
    assert process.returncode == 0, said[-3000:]
    found = outside(addresses(tmp_path / "trace", process.pid))
    if "two processes" in name:
        # torch prints the name of 127.0.0.1 in its messages, which a resolver is asked for where /etc/hosts is not.
        found = [(host, port) for host, port in found if port != 53]
    assert found == []


@pytest.mark.slow
def test_the_app_turns_to_nobody_outside_this_machine(network_path, tmp_path):
    app = App(network_path, tmp_path, tracer(tmp_path / "trace"), environment(tmp_path))
    try:
        assert "milpath" in app.get("/")
        slide = write_pyramid(tmp_path / "slide.tiff", tissue(80, 60), factors=(2, 1))
        head = '--x\r\nContent-Disposition: form-data; name="files"; filename="slide.tiff"\r\n\r\n'
        body = head.encode() + slide.read_bytes() + b"\r\n--x--\r\n"
        status, answer = app.post("/gradio_api/upload", body, "multipart/form-data; boundary=x")
        assert status == 200, answer
        assert "malignant" in app.ask([{"path": json.loads(answer)[0], **FILE}])
        time.sleep(2)  # what is sent from a thread of its own
    finally:
        app.stop()
    assert outside(addresses(tmp_path / "trace", app.process.pid)) == []


@pytest.mark.slow
def test_the_endpoint_turns_to_nobody_outside_this_machine(network_path, tmp_path):
    write_model_dir(network_path, tmp_path / "model")
    port = free_port()
    words = [str(tmp_path / "model"), "host=127.0.0.1", f"port={port}"]
    process = subprocess.Popen(
        [*tracer(tmp_path / "trace"), sys.executable, "-m", "milpath.sagemaker.serve", *words],
        cwd=tmp_path, env=environment(tmp_path), stderr=subprocess.DEVNULL,
    )  # fmt: skip
    try:
        assert answered(process, port) == 200
        slide = write_pyramid(tmp_path / "slide.tiff", tissue(80, 60), factors=(1,))
        status, answer = ask(port, "/invocations", slide.read_bytes(), 60, content_type="image/tiff")
        assert status == 200, answer
    finally:
        process.send_signal(signal.SIGTERM)
        process.wait(180)
    assert outside(addresses(tmp_path / "trace", process.pid)) == []


def answered(process, port) -> int:
    """Return the status of the first answer to a ping."""
    deadline = time.monotonic() + 300
    while process.poll() is None and time.monotonic() < deadline:
        try:
            return ask(port)[0]
        except OSError:
            time.sleep(0.1)
    raise AssertionError("the server does not answer")


def test_a_connection_of_a_grandchild_is_seen(tmp_path):
    # 192.0.2.0/24 and 2001:db8::/32 are set aside for examples; to connect a datagram socket sends nothing.
    code = """
import os, socket
def turn(family, *address):
    try:
        socket.socket(family, socket.SOCK_DGRAM).connect(address)
    except OSError:
        pass
turn(socket.AF_INET, "127.0.0.1", 80)
turn(socket.AF_INET6, "::1", 80)
if os.fork() == 0 and os.fork() == 0:
    turn(socket.AF_INET, "192.0.2.7", 443)
    turn(socket.AF_INET6, "2001:db8::7", 443)
    turn(socket.AF_INET, "127.0.0.53", 53)
    os._exit(0)
import time
time.sleep(1)
"""
    process = subprocess.Popen([*tracer(tmp_path / "trace"), sys.executable, "-c", code], env=environment(tmp_path))
    assert process.wait(180) == 0
    found = addresses(tmp_path / "trace", process.pid)
    assert {("127.0.0.1", 80), ("::1", 80)} <= set(found)
    assert sorted(outside(found)) == [("127.0.0.53", 53), ("192.0.2.7", 443), ("2001:db8::7", 443)]


def test_a_datagram_without_a_connection_and_a_resolver_are_seen():
    line = (
        '7 sendto(3, ""..., 5, 0, {sa_family=AF_INET, sin_port=htons(8125), sin_addr=inet_addr("192.0.2.9")}, 16) = 5'
    )
    assert outside(of_line(line)) == [("192.0.2.9", 8125)]
    line = '7 connect(3, {sa_family=AF_UNIX, sun_path="/run/systemd/resolve/io.systemd.Resolve"}, 42) = 0'
    assert len(outside(of_line(line))) == 1
    assert outside(of_line('7 connect(3, {sa_family=AF_UNIX, sun_path="/var/run/nscd/socket"}, 110) = -1 ENOENT')) == []
    assert outside([("::ffff:127.0.0.1", 80), ("::ffff:192.0.2.9", 80)]) == [("::ffff:192.0.2.9", 80)]
