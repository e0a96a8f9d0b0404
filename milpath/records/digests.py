"""SHA-256 of files, texts and plain values, in hexadecimal."""

import hashlib
import json
from pathlib import Path
from typing import Any


def sha256_of_file(path: str | Path) -> str:
    """Return the SHA-256 of the content of a file."""
    with Path(path).open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def sha256_of_text(text: str) -> str:
    """Return the SHA-256 of a text in UTF-8."""
    return hashlib.sha256(text.encode()).hexdigest()


def sha256_of_values(content: Any) -> str:
    """Return the SHA-256 of plain values (numbers, texts, lists, mappings), whatever the order of the keys.

    Example:
        >>> sha256_of_values({"a": 1, "b": 2}) == sha256_of_values({"b": 2, "a": 1})
        True
    """
    return sha256_of_text(json.dumps(content, sort_keys=True, separators=(",", ":")))
