"""The door of the app; what it serves is tested in tests/viewer."""

import socket
import sys

import pytest
import torch

from milpath.models import AttentionMIL, save_network


@pytest.fixture(scope="module")
def checkpoint(tmp_path_factory):
    path = tmp_path_factory.mktemp("app") / "network.pt"
    network = AttentionMIL(encoder={"name": "tile_cnn", "tile_size": 16, "embedding_dim": 8})
    save_network(network, path, tiling={"method": "darkest", "tile_size": 16, "num_tiles": 4, "level": -1})
    return path


def test_without_its_extra_it_says_what_to_install(checkpoint, run_here, tmp_path, monkeypatch):
    monkeypatch.setitem(sys.modules, "gradio", None)
    status, message = run_here("milpath.app", f"checkpoint={checkpoint}", "port=0", cwd=tmp_path)
    assert (status, message) == (1, "ImportError: the app needs gradio; run: pip install 'milpath[app]'\n")


def test_a_port_that_is_in_use_is_said_in_one_line(checkpoint, run_here, tmp_path):
    with socket.create_server(("127.0.0.1", 0)) as other:
        port = other.getsockname()[1]
        status, message = run_here("milpath.app", f"checkpoint={checkpoint}", f"port={port}", cwd=tmp_path)
    assert status == 1
    assert message.startswith(f"ValueError: port {port} of 127.0.0.1 cannot be used (")
    assert message.endswith("choose another with port=...\n")


@pytest.mark.parametrize(
    ("words", "expected"),
    [
        (["checkpoint=nowhere.ckpt"], "FileNotFoundError: no checkpoint at nowhere.ckpt"),
        (["checkpoint=other.pt"], "not a milpath checkpoint"),
        ([], "checkpoint must be given: add checkpoint=..."),
        (["checkpoint={}", "encoder_weights_path=w.pt"], "encoder_weights_path=w.pt is for a network of features"),
        (["checkpoint={}", "max_upload_mb=0"], "max_upload_mb=0 must be greater than 0"),
        (["checkpoint={}", "temporary_dir=nowhere"], "temporary_dir=nowhere is not a folder"),
        (["checkpoint={}", "host=no.such.host.invalid"], "of no.such.host.invalid cannot be used"),
        (["checkpoint={}", "share=true"], "share"),
    ],
)
def test_a_mistake_of_the_command_is_one_line(words, expected, checkpoint, run_here, tmp_path):
    torch.save({"weights": torch.zeros(1)}, tmp_path / "other.pt")
    status, message = run_here("milpath.app", *[word.format(checkpoint) for word in words], cwd=tmp_path)
    assert status == 1
    assert expected in message
    assert "Traceback" not in message
