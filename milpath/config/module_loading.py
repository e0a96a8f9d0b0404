"""Load modules without garbage collections: a third of a short training was spent on looking for garbage in them."""

import gc
import sys
from collections.abc import Iterator
from contextlib import contextmanager

_MANY_MODULES = 500


@contextmanager
def collecting_later() -> Iterator[None]:
    """Pause the garbage collector while modules are imported, and leave what they made out of later collections.

    Torch and Lightning make a million objects that stay, and each collection walks through all of them. A collector that
    somebody has turned off stays off. Nothing is left out where the modules had been loaded before: a process that trains
    again and again has garbage of its own.
    """
    was_on, before = gc.isenabled(), len(sys.modules)
    gc.disable()
    try:
        yield
    finally:
        if len(sys.modules) - before > _MANY_MODULES:
            gc.freeze()
        if was_on:
            gc.enable()
