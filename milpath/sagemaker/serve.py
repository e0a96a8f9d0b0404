"""A server for your own container: `python -m milpath.sagemaker.serve` serves /ping and /invocations on port 8080.

Needs the extra `serve`. The network is read from /opt/ml/model, or from the folder given as an argument.

If the queue is full, a request gets status 503 with `Retry-After`, as with TorchServe: 429 would blame a client for the
load of others, and CloudWatch would count it under `Invocation4XXErrors`, which scaling policies ignore. SageMaker returns
either as a `ModelError` with this status as `OriginalStatusCode`, which boto3 does not retry by itself.
"""

import argparse
import asyncio
import logging
import os
import re
import sys
from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager
from functools import partial
from pathlib import Path

import torch
from anyio.to_thread import run_sync
from fastapi import FastAPI, Request, Response
from fastapi.responses import JSONResponse
from starlette.requests import ClientDisconnect

from milpath.sagemaker.endpoint.handlers import Endpoint, model_fn
from milpath.sagemaker.endpoint.request_limits import BadRequestError, Limits, read_environment, status_of
from milpath.serving.connection_limits import ConnectionLimits
from milpath.serving.uvicorn_server import make_server, run_to_the_end
from milpath.serving.work_queue import ClientLeftError, QueueFullError, WorkQueue

MODEL_DIR = "/opt/ml/model"
# Never read: the client has disconnected.
_CLIENT_LEFT = 499
_log = logging.getLogger("uvicorn.error")


def create_app(model_dir: str | Path = MODEL_DIR, workers: int = 1, max_waiting: int = 32) -> FastAPI:
    """Return the server application; the network is loaded at start-up.

    Args:
        model_dir: Folder of an unpacked `model.tar.gz`.
        workers: Number of concurrent requests; each uses all threads of torch.
        max_waiting: Number of requests that may wait; any more get 503.
    """
    loaded: dict[str, Endpoint] = {}
    queue: WorkQueue[tuple[bytes, str]] = WorkQueue(workers, max_waiting)

    @asynccontextmanager
    async def lifespan(app: FastAPI) -> AsyncIterator[None]:
        loaded["endpoint"] = await run_sync(model_fn, str(model_dir))
        yield
        loaded.clear()

    app = FastAPI(title="milpath", lifespan=lifespan, docs_url=None, redoc_url=None, openapi_url=None)

    @app.get("/ping")
    async def ping() -> Response:
        return Response(status_code=200 if loaded else 503)

    @app.post("/invocations")
    async def invocations(request: Request) -> Response:
        if not loaded:
            return JSONResponse({"error": "the network is not loaded yet"}, 503)
        endpoint = loaded["endpoint"]
        headers = request.headers
        try:
            body = await _read(request, endpoint.reader.limits)
            work = partial(endpoint.answer, body, headers.get("content-type", ""), headers.get("accept", ""))
            answer, kind = await queue.run(work, request.receive)
        except BadRequestError as error:
            return JSONResponse({"error": str(error)}, status_of(error))
        except QueueFullError:
            seconds = queue.retry_after
            return _busy(f"{max_waiting} requests are already waiting; retry in {seconds} s", seconds)
        except (ClientDisconnect, ClientLeftError):
            return Response(status_code=_CLIENT_LEFT)
        except asyncio.CancelledError:
            # Uvicorn cancels unanswered requests when the server shuts down.
            return _busy("the server is shutting down; retry later", 1)
        return Response(answer, media_type=kind)

    return app


def _busy(error: str, seconds: int) -> Response:
    """Return a 503 response that tells the client to retry."""
    return JSONResponse({"error": error}, 503, {"Retry-After": str(seconds)})


async def _read(request: Request, limits: Limits) -> bytes:
    """Return the body; stop reading if it is longer than allowed."""
    parts, size = [], 0
    async for part in request.stream():
        size += len(part)
        if size > limits.max_body_bytes:
            raise BadRequestError(f"the body has more than {limits.max_body_bytes} bytes; send an s3_uri", 413)
        parts.append(part)
    return b"".join(parts)


def main() -> None:
    """Serve until stopped."""
    words = _parse(sys.argv[1:])
    try:
        limits, bounds = read_environment(ConnectionLimits), read_environment(Limits)
        if limits.max_connections < bounds.max_waiting + 8:
            raise ValueError(
                f"MILPATH_MAX_CONNECTIONS={limits.max_connections} must be at least 8 more than "
                f"MILPATH_MAX_WAITING={bounds.max_waiting}, so that /ping is always answered"
            )
    except ValueError as error:
        sys.exit(f"ValueError: {error}")
    app = create_app(words.model_dir, max_waiting=bounds.max_waiting)
    server = make_server(app, limits, words.host, words.port)
    _log.info("torch %s with %d threads", torch.__version__, torch.get_num_threads())
    run_to_the_end(server)


def _parse(words: Sequence[str]) -> argparse.Namespace:
    """Read the command line: `[serve] [MODEL_DIR] [host=0.0.0.0] [port=8080]`.

    The container has neither Hydra nor its configuration files. SageMaker sets the port in an environment variable.
    """
    parser = argparse.ArgumentParser(
        prog="python -m milpath.sagemaker.serve", description="Serve /ping and /invocations."
    )
    parser.add_argument("model_dir", nargs="?", default=MODEL_DIR, help=f"unpacked model.tar.gz (default: {MODEL_DIR})")
    parser.add_argument("--host", default="0.0.0.0", help="address to bind, also host=... (default: all)")  # noqa: S104
    parser.add_argument(
        "--port",
        type=int,
        default=os.environ.get("SAGEMAKER_BIND_TO_PORT", "8080"),
        help="also port=... (default: the variable SAGEMAKER_BIND_TO_PORT, or 8080)",
    )
    # SageMaker starts the container with the argument `serve`.
    return parser.parse_args([re.sub("^(?=(host|port)=)", "--", word) for word in words if word != "serve"])


if __name__ == "__main__":
    main()
