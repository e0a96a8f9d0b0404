"""A Uvicorn server that no client can hold, and its end. Needs uvicorn."""

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
    """Return a server that has not started.

    Args:
        app: Answers.
        limits: How long it waits for its clients.
        host: Address to bind, where `run` is given no socket.
        port: 0 takes one that is free.
        log_level: Of Uvicorn.
    """
    # Uvicorn's own `limit_concurrency` would refuse everybody, health checks too, while some hold all places.
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
    """Serve until the process is told to end, answer what is in hand, and end the process.

    It ends with 0, or with 1 after a line on stderr where something still ran when `end_seconds` were over.
    """
    # Uvicorn raises the signal again when it has ended; by default that would end the process before this function does.
    signal.signal(signal.SIGTERM, lambda *_: None)
    with suppress(KeyboardInterrupt):
        server.run()
    end_process()
