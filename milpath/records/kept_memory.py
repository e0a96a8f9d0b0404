"""Reuse of freed host memory for the next step instead of returning it to the system."""

import ctypes
import platform
from collections.abc import Iterator
from contextlib import contextmanager
from functools import cache
from typing import Any

# Parameters of glibc's mallopt (malloc.h), and the upper limit of its dynamic adjustment of two of them.
_TRIM_THRESHOLD, _MMAP_THRESHOLD, _MMAP_MAX = -1, -3, -4
_KEPT = ((_MMAP_MAX, 0), (_TRIM_THRESHOLD, -1))
_USUAL = ((_MMAP_MAX, 65536), (_MMAP_THRESHOLD, 32 << 20), (_TRIM_THRESHOLD, 64 << 20))

_open: list[None] = []


@contextmanager
def kept_memory() -> Iterator[None]:
    """Keep freed memory inside the `with` block, and return it at the end.

    Otherwise each large tensor is new memory from the system, which clears it page by page: a step of a small network
    on a CPU spends 40% of its time there. Results do not depend on it. Does nothing if the C library is not glibc; of
    nested blocks only the outermost has an effect.

    Example:
        >>> with kept_memory():
        ...     pass
    """
    _open.append(None)
    _set(_KEPT)
    try:
        yield
    finally:
        _open.pop()
        if not _open:
            _set(_USUAL)
            if library := _glibc():
                library.malloc_trim(0)


def _set(parameters: tuple[tuple[int, int], ...]) -> None:
    """Set parameters of the allocator."""
    if library := _glibc():
        for name, value in parameters:
            library.mallopt(name, value)


@cache
def _glibc() -> Any:
    """Return the C library if it is glibc, else `None`."""
    return ctypes.CDLL(None) if platform.libc_ver()[0] == "glibc" else None
