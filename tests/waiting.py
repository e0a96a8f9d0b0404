"""Wait for what other processes and threads do, as long as a busy machine may take."""

import time
from collections.abc import Callable
from pathlib import Path


def wait_until(ready: Callable[[], bool], seconds: float = 60) -> None:
    """Wait for something that another thread or process brings about.

    Raises:
        AssertionError: If it takes longer than some seconds.
    """
    deadline = time.monotonic() + seconds
    while not ready():
        assert time.monotonic() < deadline, f"nothing happened within {seconds} s"
        time.sleep(0.01)


def is_alive(process: int) -> bool:
    """Return whether a process is there and has not ended."""
    try:
        return Path(f"/proc/{process}/stat").read_text().rpartition(")")[2].split()[0] != "Z"
    except OSError:
        return False
