"""One run of Weights & Biases for each training of a process."""

import sys
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any


@contextmanager
def own_wandb_run() -> Iterator[None]:
    """Finish the run of Weights & Biases that a training began, whether it succeeds or not.

    Lightning's logger joins a run that is open in the process, so that without this all trials of a sweep, and all folds of
    a table, become one. A run that was open before stays open: it belongs to whoever calls the training.
    """
    before, failed = _open_run(), True
    try:
        yield
        failed = False
    finally:
        run = _open_run()
        if run is not None and run is not before:
            run.finish(exit_code=int(failed))


def _open_run() -> Any:
    """Return the run that is open in this process, None without one; nothing is imported for it."""
    return getattr(sys.modules.get("wandb"), "run", None)
