"""Cache of verified hashes: a file is read again only if it has changed.

It is saved as `.verified.json` next to the file, with size, modification times and inode, so that it is invalid for a
copy. A folder that is not writable has none: its files are verified once per process. The home folder is deliberately
not used: on machines with such folders it is often small, shared or lost with the container.
"""

import logging
import os
import time
from pathlib import Path
from typing import Any

from milpath.records.atomic_files import write_json
from milpath.records.plain_values import read_mapping

MEMORY = ".verified.json"
_log = logging.getLogger(__name__)
# File timestamps have a limited resolution: a second change within one tick leaves the same time.
_TICK_NS = 2_000_000_000
_LARGE_BYTES = 4 << 30
_here: dict[str, dict[str, Any]] = {}


def is_remembered(file: Path, value: str) -> bool:
    """Return whether a value was remembered for a file that has not changed since."""
    entry = _entry(file.stat(), value)
    return _here.get(str(file.absolute())) == entry or _read(file.parent).get(file.name) == entry


def recall(file: Path, name: str) -> str | None:
    """Return the value remembered under a name for a file that has not changed since; `None` if there is none."""
    entry = _here.get(f"{file.absolute()} {name}") or _read(file.parent).get(f"{file.name} {name}")
    value = entry.get("found") if isinstance(entry, dict) else None
    return value if isinstance(value, str) and entry == _entry(file.stat(), value) else None


def remember(file: Path, value: str, before: os.stat_result, name: str = "") -> None:
    """Remember the value of a file.

    Args:
        file: The file.
        value: The value, such as its hash.
        before: Its status before it was read; a file that changed meanwhile or just before is not remembered.
        name: Name of the value, if it is not the hash of the whole file.
    """
    entry = _entry(before, value)
    if entry != _entry(file.stat(), value) or time.time_ns() - max(before.st_mtime_ns, before.st_ctime_ns) < _TICK_NS:
        return
    _here[f"{file.absolute()} {name}".rstrip()] = entry
    try:
        write_json(file.parent / MEMORY, _read(file.parent) | {f"{file.name} {name}".rstrip(): entry})
    except OSError as error:
        if before.st_size >= _LARGE_BYTES:
            _log.info(
                "%s cannot be written to (%s): the hashes of its files are verified at every start; verify=false "
                "(data.verify=false in train) skips this", file.parent, error.strerror,
            )  # fmt: skip


def announce(file: Path, size: int) -> None:
    """Log that reading a file will take a while."""
    if size >= _LARGE_BYTES:
        _log.info(
            "verifying the hash of %s GB in %s, once until it changes; verify=false (data.verify=false in "
            "train) skips this", f"{size / 1e9:,.0f}", file,
        )  # fmt: skip


def _entry(status: os.stat_result, value: str) -> dict[str, Any]:
    return {
        "size": status.st_size,
        "mtime_ns": status.st_mtime_ns,
        "ctime_ns": status.st_ctime_ns,
        "inode": status.st_ino,
        "found": value,
    }


def _read(folder: Path) -> dict[str, Any]:
    """Return the remembered values of the files in a folder; empty if they cannot be read."""
    try:
        return read_mapping(folder / MEMORY)
    except (OSError, ValueError):
        return {}
