"""Handling of SIGINT (Ctrl+C) and SIGTERM: a stopped command runs every `finally` block and exits with 130 or 143."""

import os
import signal
import sys
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from types import FrameType

# The exit statuses that a shell, SLURM and SageMaker expect of a process ended by a signal.
INTERRUPTED, TERMINATED = 128 + signal.SIGINT, 128 + signal.SIGTERM


@contextmanager
def interruptible(hint: str = "") -> Iterator[None]:
    """Let SIGINT and SIGTERM unwind a block, report the stop in one line, and exit with 130 or 143.

    Args:
        hint: How to continue; empty if there is nothing to continue. Notes of the exception are printed before it.

    Raises:
        SystemExit: With 130 after SIGINT, 143 after SIGTERM.
    """
    before = {}
    if threading.current_thread() is threading.main_thread():
        # Lightning ignores SIGINT after the first one and does not restore the handler.
        before = {number: signal.getsignal(number) for number in (signal.SIGINT, signal.SIGTERM)}
        signal.signal(signal.SIGTERM, _exit)
    try:
        yield
    except (KeyboardInterrupt, SystemExit) as stop:
        status = status_of(stop)
        if status is None:
            raise
        if _is_first_process():
            sys.stderr.write(_line(stop, status, hint) + "\n")
        raise SystemExit(status) from None
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)


def status_of(stop: BaseException) -> int | None:
    """Return the exit status of a command stopped by a signal, or None if something else ended it.

    Lightning turns an interrupt into `sys.exit(1)`; the exception's context still holds the interrupt.
    """
    errors = _chain(stop)
    if any(isinstance(error, KeyboardInterrupt) for error in errors):
        return INTERRUPTED
    if any(isinstance(error, SystemExit) and error.code == TERMINATED for error in errors):
        return TERMINATED
    return None


def _exit(number: int, frame: FrameType | None) -> None:
    """Unwind the stack as an interrupt does, so that workers are stopped and temporary files deleted."""
    raise SystemExit(TERMINATED)


def _line(stop: BaseException, status: int, hint: str) -> str:
    """Return the message, such as `stopped by SIGTERM after epoch 3; continue with resume_from=auto`."""
    notes = [note for error in _chain(stop) for note in getattr(error, "__notes__", [])]
    place = " ".join(note for note in notes if note.startswith("after "))
    ways = [*(note for note in notes if not note.startswith("after ")), *filter(None, [hint])]
    by = " by SIGTERM" if status == TERMINATED else ""
    return "; ".join([f"stopped{by} {place}".strip(), *ways])


def _chain(error: BaseException | None) -> list[BaseException]:
    """Return an exception and its contexts, innermost last."""
    errors: list[BaseException] = []
    while error is not None and error not in errors:
        errors.append(error)
        error = error.__context__
    return errors


def _is_first_process() -> bool:
    """Return whether this is the first process of a distributed training."""
    return all(os.environ.get(name, "0") == "0" for name in ("RANK", "LOCAL_RANK", "SLURM_PROCID"))
