"""A server for a container of one's own: `python -m milpath.sagemaker.app` answers /ping and /invocations on port 8080.

Needs the extra `serve`. The network is read from /opt/ml/model, or from the folder that is the first argument.
"""

import logging
import os
import sys
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path

import anyio
import torch
import uvicorn
from anyio.to_thread import run_sync
from fastapi import FastAPI, Request, Response
from fastapi.responses import JSONResponse

from milpath.sagemaker.bad_request import BadRequestError
from milpath.sagemaker.limits import Limits
from milpath.sagemaker.serve import Endpoint, model_fn

MODEL_DIR = "/opt/ml/model"
# More connections than these wait in vain: they are told 503, and SageMaker asks again.
_MAX_CONNECTIONS = 128
_log = logging.getLogger("uvicorn.error")


def create_app(model_dir: str | Path = MODEL_DIR, workers: int = 1) -> FastAPI:
    """Return the server; the network is loaded when it starts.

    Args:
        model_dir: Folder of an unpacked `model.tar.gz`.
        workers: Requests that are answered at a time; each uses as many threads as torch has.
    """
    loaded: dict[str, Endpoint] = {}
    turns = anyio.CapacityLimiter(workers)

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
            answer, kind = await run_sync(
                endpoint.answer, body, headers.get("content-type", ""), headers.get("accept", ""), limiter=turns
            )
        except BadRequestError as error:
            return JSONResponse({"error": str(error)}, error.status)
        return Response(answer, media_type=kind)

    return app


async def _read(request: Request, limits: Limits) -> bytes:
    """Return the body, and stop reading where it is longer than allowed."""
    parts, size = [], 0
    async for part in request.stream():
        size += len(part)
        if size > limits.max_body_bytes:
            raise BadRequestError(f"the body has more than {limits.max_body_bytes} bytes; send an s3_uri", 413)
        parts.append(part)
    return b"".join(parts)


def main() -> None:
    """Serve until stopped."""
    model_dir = next((word for word in sys.argv[1:] if word != "serve"), MODEL_DIR)
    # SageMaker says on which port it asks; a container has no configuration file.
    port = int(os.environ.get("SAGEMAKER_BIND_TO_PORT", "8080"))
    _log.info("torch %s with %d threads", torch.__version__, torch.get_num_threads())
    uvicorn.run(create_app(model_dir), host="0.0.0.0", port=port, limit_concurrency=_MAX_CONNECTIONS, access_log=False)  # noqa: S104


if __name__ == "__main__":
    main()
