"""Load modules without garbage collections: a fifth of the start of a training is spent looking for garbage in them."""

import gc
from collections.abc import Iterator
from contextlib import contextmanager


@contextmanager
def collecting_later() -> Iterator[None]:
    """Pause the garbage collector while modules are imported.

    Torch and Lightning make a million objects that stay, and each collection walks through all of them: `import lightning`
    takes 5.0 s of CPU with collections and 3.9 s without. A collector that somebody has turned off stays off.
    """
    was_on = gc.isenabled()
    gc.disable()
    try:
        yield
    finally:
        if was_on:
            gc.enable()
