"""Access to many small files in a folder or in a zip archive, which is never unpacked."""

import lzma
import os
import re
import zipfile
import zlib
from collections import Counter
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import BinaryIO, Protocol

from milpath.records.digests import sha256_of_file, sha256_of_text, sha256_of_values

# Exceptions that zipfile and its decompressors raise for broken archives; OverflowError for one in memory.
_ZIP_ERRORS = (
    zipfile.BadZipFile, zlib.error, lzma.LZMAError, OSError, EOFError, ValueError, RuntimeError, OverflowError,
)  # fmt: skip
_LONGEST_NAME = 80
_LARGEST_LIST = 16 << 20
# The record at the end of an archive, its comment of at most 64 KiB aside, and the one that replaces it in large archives.
_END, _END_SIZE, _LONGEST_COMMENT = b"PK\5\6", 22, (1 << 16) - 1
_LARGE_PLACE, _LARGE_PLACE_SIZE, _LARGE_END, _LARGE_END_SIZE = b"PK\6\7", 20, b"PK\6\6", 56


class TooLargeError(ValueError):
    """A file or an upload exceeds its limit."""


class TileFiles(Protocol):
    """Files, identified by their path relative to the root with `/` between folders."""

    def names(self) -> Iterable[str]:
        """Return the paths of all files."""
        ...

    def fingerprint(self) -> str:
        """Return a hash that changes when files change, without reading them."""
        ...

    def content_digest(self) -> str:
        """Return a hash of names and contents, independent of the location of the files."""
        ...

    def read(self, name: str, largest: int) -> bytes:
        """Return the content of a file.

        Raises:
            TooLargeError: If it has more than `largest` bytes.
            ValueError: If it is damaged.
        """
        ...


class FolderFiles:
    """Files of a folder and its subfolders.

    Args:
        path: The folder.
    """

    def __init__(self, path: Path) -> None:
        self.path = path
        self._entries = dict(_walk(path, ""))

    def names(self) -> Iterable[str]:
        """Return the paths of all files."""
        return self._entries

    def fingerprint(self) -> str:
        """Hash names, sizes and modification times."""
        rows = sorted((name, entry.stat().st_size, entry.stat().st_mtime_ns) for name, entry in self._entries.items())
        return sha256_of_text(repr(rows))

    def content_digest(self) -> str:
        """Hash names and contents, reading every file."""
        return sha256_of_values({name: sha256_of_file(entry.path) for name, entry in self._entries.items()})

    def read(self, name: str, largest: int) -> bytes:
        """Return the content of a file."""
        with Path(self._entries[name].path).open("rb") as file:
            data = file.read(largest + 1)
        if len(data) > largest:
            raise TooLargeError(f"{self.path / name} is larger than {largest:,} bytes; it is not a tile")
        return data


class ZipFiles:
    """Files of a zip archive.

    Args:
        archive: Path of the archive, or the archive open for reading.
        name: Name of the archive in messages; defaults to its path.
        uploaded: It comes from a stranger, and the list of its files may have 16 MiB; each byte of it takes ten of memory.

    Raises:
        TooLargeError: If the list of its files is too large.
        ValueError: If it is not a zip archive, two of its files have the same name, or a path points outside of it.
    """

    def __init__(self, archive: Path | BinaryIO, name: str | None = None, *, uploaded: bool = False) -> None:
        self.name = str(archive) if name is None else name
        if uploaded and (size := _size_of_list(archive)) > _LARGEST_LIST:
            raise TooLargeError(f"{self.name} has a list of files of {size:,} bytes; the maximum is {_LARGEST_LIST:,}")
        try:
            self._archive = zipfile.ZipFile(archive)
            members = [info for info in self._archive.infolist() if not info.is_dir()]
        except _ZIP_ERRORS as error:
            raise ValueError(f"{self.name} is not a zip archive ({error}); create or download it again") from None
        self._entries = {info.filename: info for info in members}
        if len(self._entries) < len(members):
            twice = next(name for name, count in Counter(info.filename for info in members).items() if count > 1)
            raise ValueError(
                f"{self.name} contains two files named {twice!r}; create the archive again with only one of them"
            )
        for name in self._entries:
            # Nothing is ever extracted to these paths, but an archive that has them is suspicious.
            if name.startswith(("/", "\\")) or ".." in re.split(r"[/\\]", name) or ":" in name or "\0" in name:
                raise ValueError(
                    f"{self.name} contains the path {name[:_LONGEST_NAME]!r}, which points outside of the archive"
                )

    def names(self) -> Iterable[str]:
        """Return the paths of all files."""
        return self._entries

    def fingerprint(self) -> str:
        """Hash names, sizes and checksums listed in the archive."""
        rows = sorted((info.filename, info.file_size, info.CRC) for info in self._entries.values())
        return sha256_of_text(repr(rows))

    def content_digest(self) -> str:
        """Hash names, sizes and checksums, which are verified when a file is read."""
        return sha256_of_values({info.filename: [info.file_size, info.CRC] for info in self._entries.values()})

    def is_plain(self, name: str) -> bool:
        """Return whether a file is stored or deflated, and not encrypted."""
        info = self._entries[name]
        return info.compress_type in (zipfile.ZIP_STORED, zipfile.ZIP_DEFLATED) and not info.flag_bits & 1

    def read(self, name: str, largest: int) -> bytes:
        """Return the content of a file."""
        info = self._entries[name]
        shown = f"{name[:_LONGEST_NAME]} in {self.name}"
        if info.flag_bits & 1:
            raise ValueError(f"{shown} is encrypted; unpack the archive and give the folder")
        if info.file_size > largest:
            raise TooLargeError(f"{shown} is larger than {largest:,} bytes; it is not a tile")
        try:
            with self._archive.open(info) as file:
                # The size in the directory may be wrong: never inflate more than it states.
                return file.read(info.file_size)
        except _ZIP_ERRORS as error:
            raise ValueError(f"{shown} is damaged ({error}); create or download the archive again") from None

    def close(self) -> None:
        """Close the archive."""
        self._archive.close()


def _size_of_list(archive: Path | BinaryIO) -> int:
    """Return the bytes of the list of files of an archive, which zipfile reads as a whole; 0 if it is no archive."""
    if isinstance(archive, Path):
        with archive.open("rb") as file:
            return _size_of_list(file)
    size = archive.seek(0, os.SEEK_END)
    start = max(0, size - _LONGEST_COMMENT - _END_SIZE - _LARGE_PLACE_SIZE - _LARGE_END_SIZE)
    archive.seek(start)
    end = archive.read()
    found = [place.start() for place in re.finditer(re.escape(_END), end)]
    sizes = [int.from_bytes(end[place + 12 : place + 16], "little") for place in found]
    for place in re.finditer(re.escape(_LARGE_PLACE), end):
        # Python looks before it or, in later versions, where it says.
        stated = int.from_bytes(end[place.start() + 8 : place.start() + 16], "little")
        for position in (max(0, start + place.start() - _LARGE_END_SIZE), min(size, stated)):
            archive.seek(position)
            large = archive.read(_LARGE_END_SIZE)
            if large.startswith(_LARGE_END):
                sizes.append(int.from_bytes(large[40:48], "little"))
    archive.seek(0)
    # More than the file has is damage, or the mark of a large archive.
    return max((number for number in sizes if number <= size), default=0)


@contextmanager
def open_tile_files(path: str | Path) -> Iterator[TileFiles]:
    """Open a folder or a zip archive.

    Raises:
        FileNotFoundError: If neither exists.
        ValueError: If a file is not a zip archive.
    """
    path = Path(path)
    if path.is_dir():
        yield FolderFiles(path)
        return
    if not path.is_file():
        raise FileNotFoundError(f"no folder or zip archive at {path}")
    files = ZipFiles(path)
    try:
        yield files
    finally:
        files.close()


def _walk(folder: Path, prefix: str) -> Iterator[tuple[str, "os.DirEntry[str]"]]:
    """Yield every file below a folder."""
    with os.scandir(folder) as entries:
        for entry in entries:
            if entry.is_dir(follow_symlinks=False):
                yield from _walk(Path(entry.path), f"{prefix}{entry.name}/")
            elif entry.is_file():
                yield prefix + entry.name, entry
