"""What came: a slide or the tiles of one, told apart and bounded before anything is decoded."""

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from milpath.slides.readers.image_header import png_header
from milpath.slides.readers.open_slide import SLIDE_SUFFIXES

MEBIBYTE = 2**20


# A slide of these formats is a folder beside the file, which an upload cannot carry.
_OF_MANY_FILES = (".mrxs",)
UPLOAD_SUFFIXES = (*(suffix for suffix in SLIDE_SUFFIXES if suffix not in _OF_MANY_FILES), ".zip")


@dataclass(frozen=True)
class Limits:
    """Bounds of one upload.

    Attributes:
        max_upload_mb: Size of all files together, and of what a zip unpacks to, in MiB.
        max_tiles: Tiles of a bag that comes as tiles.
        max_seconds: Time that cutting a slide may take.

    Raises:
        ValueError: If one of them is not above 0.
    """

    max_upload_mb: int = 2048
    max_tiles: int = 4096
    max_seconds: float = 600.0

    def __post_init__(self) -> None:
        for name in ("max_upload_mb", "max_tiles", "max_seconds"):
            if getattr(self, name) <= 0:
                raise ValueError(f"{name}={getattr(self, name)} must be above 0")

    @property
    def max_bytes(self) -> int:
        """Size of all files together in bytes."""
        return self.max_upload_mb * MEBIBYTE


@dataclass(frozen=True)
class Upload:
    """Files of one question.

    Attributes:
        slide: The slide, or None.
        tiles: A zip of tiles, or the tiles; empty where a slide came.
    """

    slide: Path | None = None
    tiles: tuple[Path, ...] = ()


def sort_upload(files: Sequence[Path], limits: Limits, tile_size: int) -> Upload:
    """Say what the files of an upload are.

    Args:
        files: As they came; the ending of a name says the type, the content is checked where it is read.
        limits: What is read at most.
        tile_size: Side of the tiles that the network was trained on: a single PNG of that size is a tile.

    Raises:
        ValueError: If there is nothing, too much, or another type.
    """
    if not files:
        raise ValueError("there is no file; give a slide, or the PNG tiles of one slide")
    for path in files:
        if path.suffix.lower() not in UPLOAD_SUFFIXES:
            known = " ".join(UPLOAD_SUFFIXES)
            raise ValueError(f"{path.name} is of the type {path.suffix or '(no ending)'}; these are read: {known}")
        if path.stat().st_size == 0:
            raise ValueError(f"{path.name} is empty (0 bytes); give the whole file")
    size = sum(path.stat().st_size for path in files)
    if size > limits.max_bytes:
        raise ValueError(f"the upload has {size / MEBIBYTE:,.1f} MB; at most {limits.max_upload_mb:,} MB are read")
    if len(files) > 1:
        return _several(files)
    (path,) = files
    if path.suffix.lower() == ".zip" or _is_tile(path, tile_size):
        return Upload(tiles=(path,))
    return Upload(slide=path)


def _several(files: Sequence[Path]) -> Upload:
    """Return several PNG tiles; everything else comes alone."""
    for path in files:
        if path.suffix.lower() != ".png":
            raise ValueError(f"{path.name} came with {len(files) - 1} other files; give one slide or zip at a time")
    return Upload(tiles=tuple(files))


def _is_tile(path: Path, tile_size: int) -> bool:
    """Return whether a file is a PNG of the size of a tile."""
    with path.open("rb") as file:
        header = png_header(file.read(32))
    return header is not None and header[:2] == (tile_size, tile_size)
