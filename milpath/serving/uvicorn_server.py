"""A Uvicorn server that no client can hold, and its end. Needs uvicorn."""

import os
import signal
import sys
import threading
from contextlib import suppress

import uvicorn
from starlette.types import ASGIApp

from milpath.serving.bounded_connection import bounded_connection
from milpath.serving.connection_limits import ConnectionLimits

_SECONDS_FOR_THREADS = 1.0


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


def end_process() -> None:
    """End the process although a thread still computes: no thread can be stopped, and Python waits for each."""
    for thread in threading.enumerate():
        if thread is not threading.current_thread() and not thread.daemon:
            thread.join(_SECONDS_FOR_THREADS)
            if thread.is_alive():
                sys.stderr.write("told to end: a request was still computed and is given up\n")
                sys.stderr.flush()
                sys.stdout.flush()
                os._exit(1)
    sys.exit(0)
