"""SHA-256 of files, strings and plain values, in hexadecimal."""

import hashlib
import json
import os
import stat
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from typing import Any

_WHOLE_BYTES = 4 << 20
_BLOCK_BYTES, _NUM_BLOCKS = 64 << 10, 16
_NUM_FILES = 64


def require_regular_file(path: str | Path) -> None:
    """Refuse a pipe, a socket or a device, which nothing may ever be read from; folders and links to files are no such.

    Raises:
        ValueError: If it is one.
        OSError: If there is no such file.
    """
    mode = Path(path).stat().st_mode
    if not stat.S_ISREG(mode) and not stat.S_ISDIR(mode):
        kind = "a named pipe" if stat.S_ISFIFO(mode) else "a socket" if stat.S_ISSOCK(mode) else "a device"
        raise ValueError(f"{path} is {kind}, not a regular file; take it away or give a file")


def sha256_of_file(path: str | Path) -> str:
    """Return the SHA-256 of the content of a file.

    Raises:
        ValueError: If it is a pipe, a socket or a device.
    """
    require_regular_file(path)
    with Path(path).open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def sampled_sha256_of_file(
    path: str | Path, *, whole_bytes: int = _WHOLE_BYTES, block_bytes: int = _BLOCK_BYTES, num_blocks: int = _NUM_BLOCKS
) -> str:
    """Return a SHA-256 of the length of a file and of evenly spaced blocks; files up to 4 MiB are hashed completely.

    It distinguishes files that are too large to be read completely for this purpose, such as a compressed slide of
    gigabytes of which a few megabytes are needed. It does not detect a deliberate change between the blocks. A folder has
    the digest of the names and lengths of its files and of the content of evenly spaced ones.

    Args:
        path: A file or folder.
        whole_bytes: Length up to which a file is hashed completely.
        block_bytes: Length of a block of a longer file.
        num_blocks: Number of blocks, at least 2.

    Raises:
        ValueError: If it is a pipe, a socket or a device.
    """
    if Path(path).is_dir():
        return _sampled_sha256_of_folder(Path(path))
    require_regular_file(path)
    digest = hashlib.sha256()
    with Path(path).open("rb") as file:
        size = file.seek(0, os.SEEK_END)
        digest.update(b"%d;" % size)
        length = size if size <= whole_bytes else block_bytes
        last = size - length
        for place in sorted({last * number // (num_blocks - 1) for number in range(num_blocks)}):
            file.seek(place)
            digest.update(file.read(length))
    return digest.hexdigest()


def size_and_time(path: str | Path) -> tuple[int, int]:
    """Return the length in bytes and the time of the last change in nanoseconds of a file, or of all files of a folder."""
    paths = [Path(path), *(_files_of(Path(path)) if Path(path).is_dir() else ())]
    found = [each.stat() for each in paths]
    return sum(status.st_size for status in found[len(found) > 1 :]), max(status.st_mtime_ns for status in found)


def _sampled_sha256_of_folder(folder: Path) -> str:
    files = _files_of(folder)
    # The files whose names begin with a dot, and *.json, are few and say what the others are.
    described = [path for path in files if path.name.startswith(".") or path.suffix in (".json", ".xml")][:_NUM_FILES]
    last = len(files) - 1
    spaced = [files[last * number // (_NUM_FILES - 1)] for number in range(_NUM_FILES)] if files else []
    return sha256_of_values(
        [
            [[path.relative_to(folder).as_posix(), path.stat().st_size] for path in files],
            [sampled_sha256_of_file(path) for path in sorted({*described, *spaced})],
        ]
    )


def _files_of(folder: Path) -> list[Path]:
    """Return the files below a folder, sorted; links to folders are not followed."""
    return sorted(Path(parent) / name for parent, _, names in walk(folder) for name in names)


def walk(
    folder: str | Path, *, follow_links: bool = False, on_error: Callable[[OSError], None] | None = None
) -> Iterator[tuple[str, list[str], list[str]]]:
    """Yield each folder, the names of its folders and those of its files, as `os.walk` does, for any number of levels.

    Before Python 3.12 `os.walk` and `Path.rglob` end in a RecursionError below a thousand levels.

    Args:
        folder: The first folder; names removed from a yielded list of folders are not entered.
        follow_links: Enter folders that are links.
        on_error: Is given the error of a folder that cannot be listed; `None` passes over it.
    """
    waiting = [os.fspath(folder)]
    while waiting:
        here = waiting.pop()
        folders: list[str] = []
        names: list[str] = []
        try:
            with os.scandir(here) as entries:
                for entry in entries:
                    (folders if _is_folder(entry) else names).append(entry.name)
        except OSError as error:
            if on_error is not None:
                on_error(error)
            continue
        yield here, folders, names
        below = [os.path.join(here, name) for name in folders]  # noqa: PTH118  # a Path for each takes many times longer
        waiting += [place for place in below[::-1] if follow_links or not os.path.islink(place)]  # noqa: PTH114


def _is_folder(entry: os.DirEntry[str]) -> bool:
    try:
        return entry.is_dir()
    except OSError:  # a link to itself
        return False


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
