"""What was compared with its hash already: a file is read again only when it changed.

The memory is `.verified.json` beside the file. It holds size, times of change and inode, so that it is worth nothing for a
copy. A folder that cannot be written to has none: its files are compared once in each process. There is no memory in the
home folder on purpose, which is small, shared or gone with the container on the machines where such folders lie.
"""

import json
import logging
import os
import time
from pathlib import Path
from typing import Any

from milpath.records.atomic_files import write_json

MEMORY = ".verified.json"
_log = logging.getLogger(__name__)
# Clocks of file systems tick: a change within the tick of the last one leaves the same time.
_TICK_NS = 2_000_000_000
_LARGE_BYTES = 4 << 30
_here: dict[str, dict[str, Any]] = {}


def is_remembered(file: Path, value: str) -> bool:
    """Return whether a file was found to have a value and has not changed since."""
    entry = _entry(file.stat(), value)
    return _here.get(str(file.absolute())) == entry or _read(file.parent).get(file.name) == entry


def remember(file: Path, value: str, before: os.stat_result) -> None:
    """Keep that a file has a value.

    Args:
        file: The file.
        value: What was found, such as its hash.
        before: Its status before it was read; a file that changed meanwhile, or just before, is not remembered.
    """
    entry = _entry(before, value)
    if entry != _entry(file.stat(), value) or time.time_ns() - max(before.st_mtime_ns, before.st_ctime_ns) < _TICK_NS:
        return
    _here[str(file.absolute())] = entry
    try:
        write_json(file.parent / MEMORY, _read(file.parent) | {file.name: entry})
    except OSError as error:
        if before.st_size >= _LARGE_BYTES:
            _log.info(
                "%s cannot be written to (%s): its files are compared with their hashes at every start; verify=false "
                "(data.verify=false in train) leaves that out", file.parent, error.strerror,
            )  # fmt: skip


def announce(file: Path, size: int) -> None:
    """Say that reading a file will take a while."""
    if size >= _LARGE_BYTES:
        _log.info(
            "comparing the %s GB of %s with their hash, once until they change; verify=false (data.verify=false in "
            "train) leaves that out", f"{size / 1e9:,.0f}", file,
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
    """Return what is remembered of the files of a folder; nothing where that cannot be read."""
    try:
        content = json.loads((folder / MEMORY).read_text(encoding="utf-8"))
    except (OSError, ValueError):
        return {}
    return content if isinstance(content, dict) else {}
