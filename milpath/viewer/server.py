"""The server of the app: binding, deletion of old uploads and shutdown."""

import asyncio
import os
import socket
import sys
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from importlib.util import find_spec
from pathlib import Path

from milpath.records.folder_lock import scratch_folder
from milpath.serving.connection_limits import ConnectionLimits
from milpath.viewer.upload_answer import Analyst
from milpath.viewer.upload_folder import Uploads

_LOOPBACK = ("127.0.0.1", "localhost", "::1")
_SECONDS_BETWEEN_SWEEPS = 30.0
# A large slide may be uploaded over a slow connection; open pages notice quickly that the app has stopped.
_CONNECTIONS = ConnectionLimits(body_seconds=30.0, end_seconds=2)


def serve(
    analyst: Analyst,
    *,
    host: str,
    port: int,
    temporary_dir: str | Path | None = None,
    max_waiting: int = 8,
    forget_after_minutes: float = 30.0,
) -> None:
    """Serve the page until SIGINT or SIGTERM, which the caller handles; all files are then deleted.

    Args:
        analyst: Predicts the slides.
        host: Address to bind; a warning is printed unless it is a loopback address.
        port: Port to bind; 0 picks a free one.
        temporary_dir: Parent of the upload folder; None for the system's temporary folder.
        max_waiting: Number of slides that may wait.
        forget_after_minutes: Age at which an upload without a request is deleted.

    Raises:
        ImportError: If the extra `app` is not installed.
        ValueError: If the address cannot be bound, or the folder does not exist.
    """
    if find_spec("gradio") is None:
        raise ImportError("the app needs gradio; run: pip install 'milpath[app]'")
    if temporary_dir is not None and not Path(temporary_dir).is_dir():
        raise ValueError(f"temporary_dir={temporary_dir} is not a folder; create it first, or remove the option")
    listener = _bind(host, port)
    with listener, scratch_folder("milpath-app-", temporary_dir) as folder:
        uploads = Uploads(folder)
        # Set before importing Gradio, which reads these on import.
        os.environ["GRADIO_TEMP_DIR"] = str(uploads.incoming)
        os.environ["GRADIO_ANALYTICS_ENABLED"] = "False"
        os.environ["GRADIO_RUN_HISTORY"] = "False"
        os.environ["HF_HUB_DISABLE_TELEMETRY"] = "1"
        _run(analyst, uploads, listener, max_waiting, 60 * forget_after_minutes)


def _run(analyst: Analyst, uploads: Uploads, listener: socket.socket, max_waiting: int, forget_after: float) -> None:
    """Build the page and serve it."""
    import gradio
    from fastapi import FastAPI

    from milpath.serving.uvicorn_server import make_server
    from milpath.viewer.gradio_page import CSS, build_page, sober_theme
    from milpath.viewer.guard import Guard

    @asynccontextmanager
    async def lifespan(_: FastAPI) -> AsyncIterator[None]:
        sweeper = asyncio.create_task(sweep(uploads, forget_after))
        yield
        sweeper.cancel()

    app = FastAPI(lifespan=lifespan, docs_url=None, redoc_url=None, openapi_url=None)
    app.add_middleware(Guard, max_bytes=analyst.limits.max_bytes, incoming=uploads.incoming)
    gradio.mount_gradio_app(
        app,
        build_page(analyst, uploads, max_waiting),
        path="",
        footer_links=[],
        allowed_paths=[],
        show_error=False,
        max_file_size=analyst.limits.max_bytes,
        ssr_mode=False,
        enable_monitoring=False,
        pwa=False,
        theme=sober_theme(),
        css=CSS,
    )
    host, port = listener.getsockname()[:2]
    shown = f"[{host}]" if ":" in host else host
    sys.stderr.write(f"milpath app at http://{shown}:{port} (Ctrl+C to stop)\n")
    if host not in _LOOPBACK:
        sys.stderr.write("it has no password: everyone who can reach this address can use it\n")
    make_server(app, _CONNECTIONS, log_level="warning").run(sockets=[listener])


def _bind(host: str, port: int) -> socket.socket:
    """Return a listening socket, so that an unavailable port fails early."""
    try:
        family = socket.getaddrinfo(host, port, type=socket.SOCK_STREAM)[0][0]
        return socket.create_server((host, port), family=family)
    except (OSError, OverflowError) as error:
        raise ValueError(f"port {port} of {host} cannot be used ({error}); choose another with port=...") from None


async def sweep(uploads: Uploads, forget_after: float) -> None:
    """Delete uploads without a request periodically, until cancelled.

    Args:
        uploads: The upload folder.
        forget_after: Age in seconds at which they are deleted.
    """
    while True:
        await asyncio.sleep(min(_SECONDS_BETWEEN_SWEEPS, forget_after))
        uploads.forget_older_than(forget_after)
