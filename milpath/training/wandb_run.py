"""A separate Weights & Biases run for each training in a process."""

import sys
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any


@contextmanager
def own_wandb_run() -> Iterator[None]:
    """Finish the Weights & Biases run that a training started, whether it succeeds or not.

    Lightning's logger reuses a run that is open in the process; without this, all trials of a sweep and all folds of a
    table would share one run. A run that was open before stays open: it belongs to the caller.
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
    """Return the run that is open in this process, or None; wandb is not imported for it."""
    return getattr(sys.modules.get("wandb"), "run", None)
