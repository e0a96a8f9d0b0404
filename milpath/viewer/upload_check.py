"""Checks of an upload before decoding: type (a slide, or the tiles of one) and limits."""

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from milpath.slides.readers.image_header import png_header
from milpath.slides.readers.slide_formats import SEVERAL_FILES, SLIDE_SUFFIXES

MEBIBYTE = 2**20


# Slides of several files need a folder, which an upload cannot contain.
UPLOAD_SUFFIXES = (*(suffix for suffix in SLIDE_SUFFIXES if suffix not in SEVERAL_FILES), ".zip")


@dataclass(frozen=True)
class Limits:
    """Limits of one upload.

    Attributes:
        max_upload_mb: Size of all files together, and of the unpacked content of a zip, in MiB.
        max_tiles: Number of tiles of a bag uploaded as tiles.
        max_seconds: Time limit for cutting a slide.

    Raises:
        ValueError: If a limit is not positive.
    """

    max_upload_mb: int = 2048
    max_tiles: int = 4096
    max_seconds: float = 600.0

    def __post_init__(self) -> None:
        for name in ("max_upload_mb", "max_tiles", "max_seconds"):
            if getattr(self, name) <= 0:
                raise ValueError(f"{name}={getattr(self, name)} must be greater than 0")

    @property
    def max_bytes(self) -> int:
        """Size of all files together in bytes."""
        return self.max_upload_mb * MEBIBYTE


@dataclass(frozen=True)
class Upload:
    """Files of one upload.

    Attributes:
        slide: The slide, or None.
        tiles: A zip of tiles, or the tiles; empty for a slide.
    """

    slide: Path | None = None
    tiles: tuple[Path, ...] = ()


def sort_upload(files: Sequence[Path], limits: Limits, tile_size: int) -> Upload:
    """Return whether an upload is a slide or tiles, after checking type and size.

    Args:
        files: The uploaded files; the suffix gives the type, the content is checked when it is read.
        limits: Limits of an upload.
        tile_size: Side of the tiles the network was trained on: a single PNG of that size is a tile.

    Raises:
        ValueError: If there is no file, or a file has another type or is too large.
    """
    if not files:
        raise ValueError("there is no file; upload a slide, or the PNG tiles of one slide")
    for path in files:
        if path.suffix.lower() not in UPLOAD_SUFFIXES:
            known = " ".join(UPLOAD_SUFFIXES)
            raise ValueError(f"{path.name} has the type {path.suffix or '(no suffix)'}; supported types: {known}")
        if path.stat().st_size == 0:
            raise ValueError(f"{path.name} is empty (0 bytes); upload the complete file")
    size = sum(path.stat().st_size for path in files)
    if size > limits.max_bytes:
        raise ValueError(f"the upload has {size / MEBIBYTE:,.1f} MB; at most {limits.max_upload_mb:,} MB are allowed")
    if len(files) > 1:
        return _several(files)
    (path,) = files
    if path.suffix.lower() == ".zip" or _is_tile(path, tile_size):
        return Upload(tiles=(path,))
    return Upload(slide=path)


def _several(files: Sequence[Path]) -> Upload:
    """Return several PNG tiles; other types must be uploaded one at a time."""
    for path in files:
        if path.suffix.lower() != ".png":
            raise ValueError(
                f"{path.name} was uploaded with {len(files) - 1} other files; upload one slide or zip at a time"
            )
    return Upload(tiles=tuple(files))


def _is_tile(path: Path, tile_size: int) -> bool:
    """Return whether a file is a PNG of the size of a tile."""
    with path.open("rb") as file:
        header = png_header(file.read(32))
    return header is not None and header[:2] == (tile_size, tile_size)
