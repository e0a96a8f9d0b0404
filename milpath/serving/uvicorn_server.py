"""Uvicorn server with connection limits and a clean shutdown. Needs uvicorn."""

import signal
from contextlib import suppress

import uvicorn
from starlette.types import ASGIApp

from milpath.serving.bounded_connection import bounded_connection
from milpath.serving.connection_limits import ConnectionLimits
from milpath.serving.process_end import end_process


def make_server(
    app: ASGIApp, limits: ConnectionLimits, host: str = "127.0.0.1", port: int = 0, log_level: str = "info"
) -> uvicorn.Server:
    """Return a server that has not been started.

    Args:
        app: The ASGI application.
        limits: Timeouts and limits of its connections.
        host: Address to bind, unless `run` is given a socket.
        port: Port to bind; 0 picks a free one.
        log_level: Log level of Uvicorn.
    """
    # Uvicorn's own `limit_concurrency` would refuse all requests, including health checks, while slow clients fill it.
    return uvicorn.Server(
        uvicorn.Config(
            app,
            host=host,
            port=port,
            http=bounded_connection(limits),
            ws="none",
            access_log=False,
            server_header=False,
            log_level=log_level,
            timeout_keep_alive=limits.keep_alive_seconds,
            timeout_graceful_shutdown=limits.end_seconds,
        )
    )


def run_to_the_end(server: uvicorn.Server) -> None:
    """Serve until the process is told to stop, finish the requests in progress, and exit.

    The exit status is 0, or 1 with a line on stderr if something was still running after `end_seconds`.
    """
    # Uvicorn raises the signal again after shutdown; its default action would end the process before this function does.
    signal.signal(signal.SIGTERM, lambda *_: None)
    with suppress(KeyboardInterrupt):
        server.run()
    end_process()
