"""Exit of a server process."""

import os
import sys
import threading

_SECONDS_FOR_THREADS = 1.0


def end_process() -> None:
    """Exit even if a thread is still running; threads cannot be stopped, and Python would wait for them.

    The exit status is 0, or 1 with a line on stderr if a thread was abandoned.
    """
    for thread in threading.enumerate():
        if thread is not threading.current_thread() and not thread.daemon:
            thread.join(_SECONDS_FOR_THREADS)
            if thread.is_alive():
                sys.stderr.write("shutting down: a request was still running and is dropped\n")
                sys.stderr.flush()
                sys.stdout.flush()
                os._exit(1)
    sys.exit(0)
