"""Many small files in a folder or in a zip archive, which is read where it lies and never unpacked."""

import lzma
import os
import re
import zipfile
import zlib
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import BinaryIO, Protocol

from milpath.records.digests import sha256_of_file, sha256_of_text, sha256_of_values

# What zipfile and its decompressors raise for broken archives: each has its own way of giving up.
_ZIP_ERRORS = (
    zipfile.BadZipFile,
    zlib.error,
    lzma.LZMAError,
    OSError,
    EOFError,
    ValueError,
    RuntimeError,
    NotImplementedError,
    OverflowError,
    LookupError,
)
_LONGEST_NAME = 80


class TooLargeError(ValueError):
    """Files that hold more than is read."""


class TileFiles(Protocol):
    """Files by their path relative to the root, with `/` between folders."""

    def names(self) -> Iterable[str]:
        """Return the paths of all files."""
        ...

    def fingerprint(self) -> str:
        """Return a hash that changes when files change, without reading them."""
        ...

    def content_digest(self) -> str:
        """Return a hash of names and contents, the same wherever the files lie."""
        ...

    def read(self, name: str, largest: int) -> bytes:
        """Return the content of a file.

        Raises:
            TooLargeError: If it has more than `largest` bytes.
            ValueError: If it is damaged.
        """
        ...


class FolderFiles:
    """Files of a folder and of the folders in it.

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
        """Hash names, sizes and times of change."""
        rows = sorted((name, entry.stat().st_size, entry.stat().st_mtime_ns) for name, entry in self._entries.items())
        return sha256_of_text(repr(rows))

    def content_digest(self) -> str:
        """Hash names and contents; every file is read."""
        return sha256_of_values({name: sha256_of_file(entry.path) for name, entry in self._entries.items()})

    def read(self, name: str, largest: int) -> bytes:
        """Return the content of a file."""
        with Path(self._entries[name].path).open("rb") as file:
            data = file.read(largest + 1)
        if len(data) > largest:
            raise TooLargeError(f"{self.path / name} is larger than {largest:,} bytes: no tile")
        return data


class ZipFiles:
    """Files of a zip archive.

    Args:
        archive: Path of the archive, or the archive itself, open for reading.
        name: What to call it in messages; its path where it has one.

    Raises:
        ValueError: If it is no zip archive, two of its files have one name, or a name leads out of it.
    """

    def __init__(self, archive: Path | BinaryIO, name: str | None = None) -> None:
        self.name = str(archive) if name is None else name
        try:
            self._archive = zipfile.ZipFile(archive)
            members = [info for info in self._archive.infolist() if not info.is_dir()]
        except _ZIP_ERRORS as error:
            raise ValueError(f"{self.name} is not a zip archive ({error}); write or download it again") from None
        self._entries = {info.filename: info for info in members}
        if len(self._entries) < len(members):
            names = [info.filename for info in members]
            twice = next(name for name in names if names.count(name) > 1)
            raise ValueError(
                f"{self.name} holds two files of the name {twice!r}; write the archive again with one of them"
            )
        for name in self._entries:
            # Nothing is ever written to these paths; an archive that has them is not what it claims to be.
            if name.startswith(("/", "\\")) or ".." in re.split(r"[/\\]", name) or ":" in name or "\0" in name:
                raise ValueError(
                    f"{self.name} holds the path {name[:_LONGEST_NAME]!r}, which leads out of the archive; it is refused"
                )

    def names(self) -> Iterable[str]:
        """Return the paths of all files."""
        return self._entries

    def fingerprint(self) -> str:
        """Hash names, sizes and checksums as the archive lists them."""
        rows = sorted((info.filename, info.file_size, info.CRC) for info in self._entries.values())
        return sha256_of_text(repr(rows))

    def content_digest(self) -> str:
        """Hash names, sizes and checksums, which are compared when a file is read."""
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
            raise TooLargeError(f"{shown} is larger than {largest:,} bytes: no tile")
        try:
            with self._archive.open(info) as file:
                # The size in the directory may lie: never inflate more than was announced.
                return file.read(info.file_size)
        except _ZIP_ERRORS as error:
            raise ValueError(f"{shown} is damaged ({error}); write or download the archive again") from None

    def close(self) -> None:
        """Close the archive."""
        self._archive.close()


@contextmanager
def open_tile_files(path: str | Path) -> Iterator[TileFiles]:
    """Open a folder or a zip archive.

    Raises:
        FileNotFoundError: If there is neither.
        ValueError: If a file is no zip archive.
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
