"""SHA-256 of files, strings and plain values, in hexadecimal."""

import hashlib
import json
import os
from collections.abc import Mapping
from pathlib import Path
from typing import Any

_WHOLE_BYTES = 4 << 20
_BLOCK_BYTES, _NUM_BLOCKS = 64 << 10, 16


def sha256_of_file(path: str | Path) -> str:
    """Return the SHA-256 of the content of a file."""
    with Path(path).open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def sampled_sha256_of_file(path: str | Path) -> str:
    """Return a SHA-256 of the length of a file and of evenly spaced blocks; files up to 4 MiB are hashed completely.

    It distinguishes files that are too large to be read completely for this purpose, such as a compressed slide of
    gigabytes of which a few megabytes are needed. It does not detect a deliberate change between the blocks.
    """
    digest = hashlib.sha256()
    with Path(path).open("rb") as file:
        size = file.seek(0, os.SEEK_END)
        digest.update(b"%d;" % size)
        length = size if size <= _WHOLE_BYTES else _BLOCK_BYTES
        last = size - length
        for place in sorted({last * number // (_NUM_BLOCKS - 1) for number in range(_NUM_BLOCKS)}):
            file.seek(place)
            digest.update(file.read(length))
    return digest.hexdigest()


def sha256_of_text(text: str) -> str:
    """Return the SHA-256 of a string, encoded as UTF-8."""
    return hashlib.sha256(text.encode()).hexdigest()


def sha256_of_splits(splits: Mapping[str, str]) -> str:
    """Return a digest of the assignment of bags to splits, independent of their order.

    Args:
        splits: Bag to split.
    """
    return sha256_of_values(sorted([name, split] for name, split in splits.items()))


def sha256_of_values(content: Any) -> str:
    """Return the SHA-256 of plain values (numbers, strings, lists, mappings), independent of the order of keys.

    Example:
        >>> sha256_of_values({"a": 1, "b": 2}) == sha256_of_values({"b": 2, "a": 1})
        True
    """
    return sha256_of_text(json.dumps(content, sort_keys=True, separators=(",", ":")))
