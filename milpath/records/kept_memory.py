"""Host memory that a step frees is kept for the next step instead of going back to the system."""

import ctypes
import platform
from collections.abc import Iterator
from contextlib import contextmanager
from functools import cache
from typing import Any

# The parameters of glibc's mallopt (malloc.h), and where its own adjustment of two of them ends.
_TRIM_THRESHOLD, _MMAP_THRESHOLD, _MMAP_MAX = -1, -3, -4
_KEPT = ((_MMAP_MAX, 0), (_TRIM_THRESHOLD, -1))
_USUAL = ((_MMAP_MAX, 65536), (_MMAP_THRESHOLD, 32 << 20), (_TRIM_THRESHOLD, 64 << 20))

_open: list[None] = []


@contextmanager
def kept_memory() -> Iterator[None]:
    """Keep freed memory inside the block, and give it back at its end.

    Each large tensor is otherwise new memory from the system, which clears it page by page: a step of a small network on a
    CPU spends four tenths of its time there. Results do not depend on it. Does nothing where the C library is not glibc;
    of blocks within each other the outermost counts.

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
    """Return the C library if it is glibc."""
    return ctypes.CDLL(None) if platform.libc_ver()[0] == "glibc" else None
