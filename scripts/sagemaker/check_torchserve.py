"""Compares the responses of TorchServe with those of the endpoint code. Started by check_torchserve.sh."""

import io
import json
import os
import pickle
import signal
import subprocess
import sys
import tempfile
import time
from pathlib import Path

import numpy as np
from fuzz import post
from served import wait_for, write_network

from milpath.sagemaker.endpoint.handlers import NETWORK_FILE, Endpoint

ADDRESS = "http://127.0.0.1:8080"


def main() -> None:
    toolkit = Path(sys.argv[1])
    with tempfile.TemporaryDirectory() as name:
        base = Path(name)
        write_network(base / "model", tile_size=32, embedding_dim=16)
        variables = {
            "PATH": f"{toolkit}/bin:/usr/bin:/bin:/usr/sbin",
            "HOME": os.environ["HOME"],
            "SAGEMAKER_BASE_DIR": str(base),
            "SAGEMAKER_PROGRAM": "inference.py",
            "SAGEMAKER_SUBMIT_DIRECTORY": str(base / "model/code"),
            "SAGEMAKER_MODEL_SERVER_WORKERS": "1",
            "TS_MAX_REQUEST_SIZE": "7340032",
            "OMP_NUM_THREADS": "1",
        }
        log = (base / "log").open("w")
        server = subprocess.Popen(
            [str(toolkit / "bin/serve"), "serve"],
            env=variables,
            cwd=base,
            stdout=log,
            stderr=log,
            start_new_session=True,
        )
        started = time.monotonic()
        try:
            wait_for(ADDRESS, server)
            compare(Endpoint(base / "model" / NETWORK_FILE))
            print(f"TorchServe answers as the endpoint does ({time.monotonic() - started:.0f} s)")
        except BaseException:
            print((base / "log").read_text()[-6000:])
            raise
        finally:
            os.killpg(server.pid, signal.SIGKILL)


def compare(endpoint: Endpoint) -> None:
    tiles = np.random.default_rng(0).integers(0, 256, (5, 32, 32, 3), dtype=np.uint8)
    body = io.BytesIO()
    np.save(body, tiles)
    npy = body.getvalue()
    deadline = time.monotonic() + 60
    while True:
        status, answer = post(ADDRESS, npy, "application/x-npy")
        # The server reports healthy before its worker is ready.
        if status == 200 or time.monotonic() > deadline:
            break
        time.sleep(1)
    assert status == 200, answer
    expected = json.loads(endpoint.answer(npy, "application/x-npy")[0])["predictions"][0]
    found = json.loads(answer)["predictions"][0]
    np.testing.assert_allclose(found["attention"], expected["attention"], atol=1e-5)
    np.testing.assert_allclose(
        list(found["probabilities"].values()), list(expected["probabilities"].values()), atol=1e-5
    )
    bad = {
        "no JSON": (b"{", "application/json", 400),
        "pickle": (pickle.dumps([1]), "application/x-npy", 400),
        "shape": (npy[:-100], "application/x-npy", 400),
        "type": (npy, "text/weird", 415),
    }
    for name, (content, kind, wished) in bad.items():
        status, answer = post(ADDRESS, content, kind)
        assert status == wished, (name, status, answer)
        assert b"Traceback" not in answer, answer
        print(name, status, answer.decode())


if __name__ == "__main__":
    main()
