"""Uploaded tiles of one slide, with names validated and sizes bounded before anything is decoded.

The app and the endpoints share this module, so that they refuse the same uploads.
"""

from collections.abc import Callable, Iterable, Iterator
from pathlib import PurePosixPath
from typing import NamedTuple

from milpath.slides.readers.image_header import PNG_SIGNATURE, png_header
from milpath.slides.tile_files import TooLargeError, ZipFiles
from milpath.slides.tile_names import natural_key, require_tiles_of_one_slide

_LONGEST_NAME = 80


class UploadedTile(NamedTuple):
    """The undecoded file of one tile.

    Attributes:
        name: Name of the file as sent.
        data: A PNG file.
        width: Width in pixels from the header of the file; 0 if the file is truncated.
        height: Height likewise.
    """

    name: str
    data: bytes
    width: int
    height: int


def upload_names(names: Iterable[str], source: str, max_tiles: int, min_tiles: int = 1) -> list[str]:
    """Return the names of the tiles in natural order; refuse names that cannot be tiles of one slide.

    Args:
        names: Names of all files; files that macOS adds to an archive are ignored.
        source: Name of the upload in messages.
        max_tiles: Maximum number of tiles.
        min_tiles: 2 refuses a single tile, whose attention is always 1.

    Raises:
        TooLargeError: If there are more than `max_tiles`.
        ValueError: If there are fewer than `min_tiles`, or one is not named as a PNG, is missing, or occurs twice.
    """
    names = sorted((name for name in names if not _is_litter(name)), key=natural_key)
    if not names:
        raise ValueError(f"{source} contains no files; give the PNG tiles of one slide")
    for name in names:
        if not name.lower().endswith(".png"):
            raise ValueError(f"{source} contains {name[:_LONGEST_NAME]!r}; give only PNG tiles")
    if len(names) > max_tiles:
        raise TooLargeError(f"{source} contains {len(names):,} tiles; the maximum is {max_tiles:,}")
    if len(names) < min_tiles:
        raise ValueError(
            f"{source} contains only one tile, but attention compares tiles with each other; "
            "give all tiles of the slide, or the whole slide"
        )
    require_tiles_of_one_slide(names, source)
    return names


def require_plain(archive: ZipFiles, names: Iterable[str]) -> None:
    """Refuse an archive whose decompression has no small memory bound.

    Raises:
        ValueError: If a file is encrypted, or neither stored nor deflated.
    """
    for name in names:
        if not archive.is_plain(name):
            raise ValueError(
                f"{name[:_LONGEST_NAME]} in {archive.name} is encrypted or compressed in an unusual way; store or deflate it"
            )


def read_tiles(
    names: Iterable[str], read: Callable[[str, int], bytes], *, max_file_bytes: int, max_bytes: int
) -> Iterator[UploadedTile]:
    """Yield the files of the tiles one by one.

    Args:
        names: Names of the files.
        read: Function that returns the content of a file, or raises `TooLargeError` if it exceeds the given limit.
        max_file_bytes: Maximum size of one file.
        max_bytes: Maximum total size.

    Raises:
        TooLargeError: If a limit is exceeded.
        ValueError: If a file is not a PNG.
    """
    size = 0
    for name in names:
        data = read(name, max_file_bytes)
        size += len(data)
        if size > max_bytes:
            raise TooLargeError(f"the tiles unpack to more than {max_bytes:,} bytes; give fewer tiles")
        if not data.startswith(PNG_SIGNATURE):
            raise ValueError(f"{name[:_LONGEST_NAME]} is not a PNG image; give only PNG tiles")
        header = png_header(data)
        yield UploadedTile(name, data, *((0, 0) if header is None else header[:2]))


def _is_litter(name: str) -> bool:
    """Return whether this file was added by macOS."""
    return name.startswith("__MACOSX/") or PurePosixPath(name).name == ".DS_Store"
