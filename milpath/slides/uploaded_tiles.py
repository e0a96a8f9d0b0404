"""The tiles of one slide as somebody uploads them: names checked, sizes bounded before anything is decoded.

The app and the endpoints take uploads through this module, so that what one refuses the other refuses too.
"""

from collections.abc import Callable, Iterable, Iterator
from pathlib import PurePosixPath
from typing import NamedTuple

from milpath.slides.readers.image_header import PNG_SIGNATURE, png_header
from milpath.slides.tile_files import TooLargeError, ZipFiles
from milpath.slides.tile_names import natural_key, require_tiles_of_one_slide

_LONGEST_NAME = 80


class UploadedTile(NamedTuple):
    """The file of one tile, not decoded.

    Attributes:
        name: As it was sent.
        data: A PNG file.
        width: In pixels, as the header of the file says; 0 where the file ends before.
        height: Likewise.
    """

    name: str
    data: bytes
    width: int
    height: int


def upload_names(names: Iterable[str], source: str, max_tiles: int, min_tiles: int = 1) -> list[str]:
    """Return the names of the tiles, numbers in order of their value, or say which of them cannot be tiles of one slide.

    Args:
        names: Of all files; what macOS adds to an archive is left out.
        source: Where they come from, for messages.
        max_tiles: The most that are read.
        min_tiles: 2 refuses a single tile, whose attention is 1 whatever it shows.

    Raises:
        TooLargeError: If there are more.
        ValueError: If there are fewer, or one is not called a PNG, is missing, or comes twice.
    """
    names = sorted((name for name in names if not _is_litter(name)), key=natural_key)
    if not names:
        raise ValueError(f"{source} holds no file; give the PNG tiles of one slide")
    for name in names:
        if not name.lower().endswith(".png"):
            raise ValueError(f"{source} holds {name[:_LONGEST_NAME]!r}; give PNG tiles only")
    if len(names) > max_tiles:
        raise TooLargeError(f"{source} holds {len(names):,} tiles; at most {max_tiles:,} are read")
    if len(names) < min_tiles:
        raise ValueError(
            f"{source} holds one tile, and attention weighs tiles against each other; "
            "give all tiles of the slide, or the whole slide"
        )
    require_tiles_of_one_slide(names, source)
    return names


def require_plain(archive: ZipFiles, names: Iterable[str]) -> None:
    """Refuse an archive whose decompression has no small bound on memory.

    Raises:
        ValueError: If a file is encrypted, or neither stored nor deflated.
    """
    for name in names:
        if not archive.is_plain(name):
            raise ValueError(
                f"{name[:_LONGEST_NAME]} in {archive.name} is encrypted or packed in an unusual way; store or deflate it"
            )


def read_tiles(
    names: Iterable[str], read: Callable[[str, int], bytes], *, max_file_bytes: int, max_bytes: int
) -> Iterator[UploadedTile]:
    """Yield the files of the tiles one by one.

    Args:
        names: Which files.
        read: Returns the content of a file, or raises `TooLargeError` where it has more bytes than it is told.
        max_file_bytes: Bound on one file.
        max_bytes: Bound on all files.

    Raises:
        TooLargeError: If there is more.
        ValueError: If a file is not a PNG.
    """
    size = 0
    for name in names:
        data = read(name, max_file_bytes)
        size += len(data)
        if size > max_bytes:
            raise TooLargeError(f"the tiles unpack to more than {max_bytes:,} bytes; give fewer")
        if not data.startswith(PNG_SIGNATURE):
            raise ValueError(f"{name[:_LONGEST_NAME]} is not a PNG picture; give PNG tiles only")
        header = png_header(data)
        yield UploadedTile(name, data, *((0, 0) if header is None else header[:2]))


def _is_litter(name: str) -> bool:
    """Return whether macOS put this file beside the others."""
    return name.startswith("__MACOSX/") or PurePosixPath(name).name == ".DS_Store"
