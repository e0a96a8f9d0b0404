"""Arrays of a NumPy archive (.npz) of somebody else: no code, and sizes that a published set may have."""

import zipfile
import zlib
from collections.abc import Collection
from pathlib import Path
from tokenize import TokenError

import numpy as np

from milpath.records.digests import require_regular_file
from milpath.records.error_text import reason_of

# Unpacked; the largest of the sets, MNIST, has 55 MB.
MAX_UNPACKED = 1 << 30
# What numpy raises for headers, which it parses with Python's tokenizer, and zipfile for archives.
_BROKEN = (
    OSError, EOFError, ValueError, SyntaxError, TypeError, OverflowError, MemoryError, RuntimeError, TokenError,
    zipfile.BadZipFile, zlib.error,
)  # fmt: skip


def read_arrays(path: Path, names: Collection[str]) -> dict[str, np.ndarray]:
    """Return arrays of a NumPy archive.

    Args:
        path: The file.
        names: The arrays that it must have; others are not read.

    Raises:
        ValueError: With the reason, if it is damaged, lacks an array, holds Python objects or unpacks to more than 1 GiB.
    """
    require_regular_file(path)
    try:
        with zipfile.ZipFile(path) as archive:
            size = sum(member.file_size for member in archive.infolist())
        if size <= MAX_UNPACKED:
            with np.load(path, allow_pickle=False) as arrays:
                found = arrays.files
                if set(names) <= set(found):
                    return {name: np.asarray(arrays[name]) for name in names}
    except _BROKEN as error:
        raise ValueError(reason_of(error)) from None
    if size > MAX_UNPACKED:
        raise ValueError(f"it unpacks to {size / 1e6:,.0f} MB, more than {MAX_UNPACKED / 1e6:,.0f} MB")
    missing = next(name for name in names if name not in found)
    raise ValueError(f"it has no array {missing!r}; it has {', '.join(found[:12]) or 'none'}")
