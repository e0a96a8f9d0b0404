"""An endpoint of SageMaker on loopback, which boto3 asks as it asks the real one."""

import threading
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest
import uvicorn
from starlette.types import ASGIApp

from milpath.sagemaker.serve import create_app
from tests.slow_clients import port_of
from tests.waiting import wait_until


def as_sagemaker(app: ASGIApp, name: str) -> ASGIApp:
    """Let the server be found where the runtime of SageMaker has its endpoints."""

    async def wrapped(scope, receive, send):
        if scope["type"] == "http" and scope["path"] == f"/endpoints/{name}/invocations":
            scope = scope | {"path": "/invocations", "raw_path": b"/invocations"}
        await app(scope, receive, send)

    return wrapped


@contextmanager
def served_as(name: str, model_dir: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """Serve an unpacked archive on loopback where boto3 looks for an endpoint."""
    server = uvicorn.Server(uvicorn.Config(as_sagemaker(create_app(model_dir), name), port=0, log_level="warning"))
    thread = threading.Thread(target=server.run, daemon=True)
    thread.start()
    wait_until(lambda: server.started)
    monkeypatch.setenv("AWS_ENDPOINT_URL_SAGEMAKER_RUNTIME", f"http://127.0.0.1:{port_of(server)}")
    for variable in ("AWS_ACCESS_KEY_ID", "AWS_SECRET_ACCESS_KEY"):
        monkeypatch.setenv(variable, "testing")
    yield
    server.should_exit = True
    thread.join(60)
