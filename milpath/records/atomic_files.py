"""Atomic writes: a file appears under its name only when it is complete, however the process ends."""

import json
import os
import re
import uuid
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any

_BLOCK = 1 << 16
# .{name}.{process}.{random}.partial
_PARTIAL = re.compile(r"\..+\.\d+\.[0-9a-f]{8}\.partial", re.DOTALL)


@contextmanager
def atomic_path(path: str | Path, *, durable: bool = True) -> Iterator[Path]:
    """Yield a temporary path next to `path` that takes its name when the block ends without an exception.

    The content is flushed to the disk before the rename, so that neither a kill nor a power failure leaves an empty or
    partial file under the name. The temporary file is in the same folder, so that the rename never crosses file
    systems.

    Args:
        path: Path of the complete file; its folder must exist.
        durable: Flush to the disk. False is for files that readers verify and recreate: a power failure may leave them
            empty, a kill does not.

    Raises:
        FileNotFoundError: If the folder does not exist.
        OSError: If the disk is full or the folder cannot be written to; it names `path`, and an existing file there
            stays unchanged.

    Example:
        >>> import tempfile
        >>> path = Path(tempfile.mkdtemp()) / "numbers.txt"
        >>> with atomic_path(path) as temporary:
        ...     _ = temporary.write_text("1 2 3")
        >>> path.read_text()
        '1 2 3'
    """
    path = Path(path)
    if not path.parent.is_dir():
        raise FileNotFoundError(f"{path.parent} is not a folder; create it first")
    # Two processes may write the same file, so each uses its own temporary name.
    temporary = path.with_name(f".{path.name[:200]}.{os.getpid()}.{uuid.uuid4().hex[:8]}.partial")
    try:
        yield temporary
        if durable:
            with temporary.open("rb") as file:
                os.fsync(file.fileno())
        temporary.replace(path)
        if durable:
            sync_folder(path.parent)
    except OSError as error:
        # A failed write has no file name, and the temporary one is of no use to a person.
        if error.errno is not None and error.filename in (None, str(temporary)):
            error.filename, error.filename2 = str(path), None
        raise
    finally:
        with suppress(OSError):
            temporary.unlink(missing_ok=True)


def require_folder(folder: Path, option: str) -> None:
    """Refuse an output folder that cannot be made.

    Args:
        folder: The folder, which need not exist.
        option: How the user gave it: `output=features`.

    Raises:
        FileExistsError: If it is a file.
        NotADirectoryError: If a part of its path is a file.
        PermissionError: If it does not exist and the user may not make it.
    """
    for place in (folder, *folder.parents):
        if place.is_dir():
            # Whether a folder that exists can be left as it is depends on what is in it.
            if place != folder and not os.access(
                place, os.W_OK | os.X_OK, effective_ids=os.access in os.supports_effective_ids
            ):
                raise PermissionError(f"{option}: cannot write to {place}; give a folder that you may write to")
            return
        if os.path.lexists(place):
            if place == folder:
                raise FileExistsError(f"{option} is a file; set a folder")
            raise NotADirectoryError(f"{option} is below {place}, which is a file; set a folder")


def remove_partial_files(folder: Path) -> None:
    """Delete partial files of killed processes in a folder that no other process writes to."""
    for path in folder.iterdir() if folder.is_dir() else ():
        if _PARTIAL.fullmatch(path.name):
            path.unlink(missing_ok=True)


def is_partial_file(path: Path, name: str) -> bool:
    """Return whether a path is a partial file of `atomic_path` for a file called `name` in the same folder."""
    return _PARTIAL.fullmatch(path.name) is not None and path.name.startswith(f".{name}.")


def drop_open_line(path: Path) -> None:
    """Remove an incomplete last line, left by an interrupted write."""
    with path.open("rb+") as file:
        end = file.seek(0, os.SEEK_END)
        while end:
            start = max(0, end - _BLOCK)
            file.seek(start)
            found = file.read(end - start).rfind(b"\n")
            if found >= 0:
                end = start + found + 1
                break
            end = start
        file.truncate(end)


def sync_folder(folder: Path) -> None:
    """Make the names in a folder durable, if the system supports it."""
    try:
        descriptor = os.open(folder, os.O_RDONLY)
    except OSError:  # Windows cannot open folders
        return
    try:
        os.fsync(descriptor)
    except OSError:  # some network file systems refuse it
        pass
    finally:
        os.close(descriptor)


def write_text(path: str | Path, text: str) -> None:
    """Write UTF-8 text atomically."""
    with atomic_path(path) as temporary:
        temporary.write_text(text, encoding="utf-8")


def write_bytes(path: str | Path, content: bytes) -> None:
    """Write bytes atomically."""
    with atomic_path(path) as temporary:
        temporary.write_bytes(content)


def write_json(path: str | Path, content: Any) -> None:
    """Write JSON atomically; NaN and infinity are refused because JSON cannot represent them."""
    write_text(path, json.dumps(content, indent=2, allow_nan=False) + "\n")
