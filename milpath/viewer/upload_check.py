"""Checks of an upload before decoding: its slides, each a slide file or tiles, and limits."""

import re
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path, PurePosixPath

from milpath.slides.readers.image_header import png_header
from milpath.slides.readers.slide_formats import SEVERAL_FILES, SLIDE_SUFFIXES

MEBIBYTE = 2**20
_OF_A_SLIDE = re.compile(r"(.+)_\d+")
# A PNG among several files whose longer side has as many tiles is a slide; a smaller one is a tile, of whatever size.
_SLIDE_SIDES = 4


# Slides of several files need a folder, which an upload cannot contain.
UPLOAD_SUFFIXES = (*(suffix for suffix in SLIDE_SUFFIXES if suffix not in SEVERAL_FILES), ".zip")


@dataclass(frozen=True)
class Limits:
    """Limits of one upload.

    Attributes:
        max_upload_mb: Size of all files together, and of the unpacked content of a zip, in MiB.
        max_tiles: Number of tiles of an upload of tiles, over all its slides.
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
    """Files of one slide.

    Attributes:
        slide: The slide, or None.
        tiles: A zip of tiles, or the tiles; empty for a slide.
    """

    slide: Path | None = None
    tiles: tuple[Path, ...] = ()


def sort_upload(files: Sequence[Path], limits: Limits, tile_size: int) -> list[Upload]:
    """Return the slides of an upload, all slide files or all tiles, after checking type and size.

    A zip holds the tiles of one slide. Loose tiles belong to the slides of their names `{slide}_{i}.png`.

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
        return _several(files, tile_size)
    (path,) = files
    if path.suffix.lower() == ".zip" or _png_size(path) == (tile_size, tile_size):
        return [Upload(tiles=(path,))]
    return [Upload(slide=path)]


def _several(files: Sequence[Path], tile_size: int) -> list[Upload]:
    """Return the slides of several files."""
    zips = [path for path in files if path.suffix.lower() == ".zip"]
    tiles = [path for path in files if _may_be_tile(path, tile_size)]
    slides = [path for path in files if path not in zips and path not in tiles]
    if bool(zips) + bool(tiles) + bool(slides) > 1:
        (first, kind), (second, other) = [
            (found[0].name, words)
            for found, words in ((slides, "a slide"), (zips, "a zip of tiles"), (tiles, "a tile"))
            if found
        ][:2]
        raise ValueError(f"{first} is {kind} and {second} {other}; upload only slides, only zips, or only tiles")
    for path in (*slides, *zips):
        if sum(other.stem == path.stem for other in files) > 1:
            raise ValueError(f"two of the files have the name {path.stem!r}; rename one, or leave it out")
    if tiles:
        return [Upload(tiles=of_slide) for of_slide in _by_slide(tiles)]
    return [*(Upload(slide=path) for path in slides), *(Upload(tiles=(path,)) for path in zips)]


def slide_of_tile(name: str) -> str | None:
    """Return the slide of a tile `{slide}_{i}.png`; None for another name."""
    found = _OF_A_SLIDE.fullmatch(PurePosixPath(name).stem)
    return found[1] if found else None


def _by_slide(tiles: Sequence[Path]) -> list[tuple[Path, ...]]:
    """Return tiles by slide; all together if a name does not tell the slide."""
    names = [(slide_of_tile(path.name) or "").casefold() for path in tiles]
    if "" in names:
        return [tuple(tiles)]
    return [
        tuple(path for path, name in zip(tiles, names, strict=True) if name == slide) for slide in dict.fromkeys(names)
    ]


def _may_be_tile(path: Path, tile_size: int) -> bool:
    """Return whether one of several files is a PNG, and not as large as a slide."""
    if path.suffix.lower() != ".png":
        return False
    size = _png_size(path)
    return size is None or max(size) < _SLIDE_SIDES * tile_size


def _png_size(path: Path) -> tuple[int, int] | None:
    """Return width and height of a PNG; None for another file."""
    with path.open("rb") as file:
        header = png_header(file.read(32))
    return None if header is None else header[:2]
