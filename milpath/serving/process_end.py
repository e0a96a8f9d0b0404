"""The end of a server's process."""

import os
import sys
import threading

_SECONDS_FOR_THREADS = 1.0


def end_process() -> None:
    """End the process although a thread still computes: no thread can be stopped, and Python waits for each.

    It ends with 0, or with 1 and a line on stderr if a thread was given up.
    """
    for thread in threading.enumerate():
        if thread is not threading.current_thread() and not thread.daemon:
            thread.join(_SECONDS_FOR_THREADS)
            if thread.is_alive():
                sys.stderr.write("told to end: a request was still computed and is given up\n")
                sys.stderr.flush()
                sys.stdout.flush()
                os._exit(1)
    sys.exit(0)
