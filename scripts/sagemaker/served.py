"""The server of milpath.sagemaker.serve in a separate process on loopback, for load tests and fuzzing."""

import contextlib
import os
import subprocess
import sys
import tempfile
import time
import urllib.request
from pathlib import Path

import torch

from milpath.models import AttentionMIL, save_network
from milpath.sagemaker.jobs.model_archive import write_model_dir


def write_network(folder: Path, tile_size: int = 128, embedding_dim: int = 512) -> None:
    """Write an untrained network; its predictions do not matter here."""
    torch.manual_seed(0)
    encoder = {"name": "tile_cnn", "tile_size": tile_size, "embedding_dim": embedding_dim}
    tiling = {"method": "darkest", "num_tiles": 16, "tile_size": tile_size}
    with tempfile.TemporaryDirectory() as name:
        path = Path(name) / "network.pt"
        save_network(
            AttentionMIL(encoder=encoder), path, class_names=("benign", "malignant"), task="binary", tiling=tiling
        )
        write_model_dir(path, folder)


@contextlib.contextmanager
def served(folder: Path, port: int = 18080, **variables: str):
    """Serve a network; yields address and process id."""
    environment = os.environ | {"SAGEMAKER_BIND_TO_PORT": str(port)} | variables
    server = subprocess.Popen([sys.executable, "-m", "milpath.sagemaker.serve", str(folder)], env=environment)
    try:
        yield wait_for(f"http://127.0.0.1:{port}", server), server.pid
    finally:
        server.terminate()
        server.wait(20)


def wait_for(address: str, server: subprocess.Popen) -> str:
    """Return the address once /ping returns 200."""
    deadline = time.monotonic() + 120
    while time.monotonic() < deadline and server.poll() is None:
        try:
            with urllib.request.urlopen(f"{address}/ping", timeout=2) as answer:
                if answer.status == 200:
                    return address
        except OSError:
            time.sleep(0.1)
    raise TimeoutError("the server did not start")


def memory_mb(pid: int) -> float:
    """Return the resident memory of a process."""
    for line in Path(f"/proc/{pid}/status").read_text().splitlines():
        if line.startswith("VmRSS"):
            return int(line.split()[1]) / 1024
    raise ProcessLookupError(pid)
