"""Uploaded tiles to a bag: read where they lie, never unpacked, each of them bounded."""

import re
from collections.abc import Iterable, Iterator, Sequence
from pathlib import Path, PurePosixPath

import numpy as np
from numpy.typing import NDArray

from milpath.data.sources.tile_decoding import decode_tile
from milpath.data.sources.tile_files import open_tile_files
from milpath.data.store.bag_store_writer import BagStoreWriter
from milpath.slides.tile_names import natural_key, require_tiles_of_one_slide
from milpath.viewer.upload_limits import MEBIBYTE, Limits

PNG_SIGNATURE = b"\x89PNG\r\n\x1a\n"
# Enough to say of a picture that is too large for a tile how large it is.
_MAX_FILE_BYTES = 64 * MEBIBYTE
_OF_A_SLIDE = re.compile(r"(.+)_\d+")


def write_tile_bag(files: Sequence[Path], output: Path, tile_size: int, limits: Limits) -> None:
    """Write the tiles of one slide into a bag store.

    Args:
        files: PNG tiles, or one zip of them.
        output: Folder of the new store; its only bag bears the name of the slide.
        tile_size: Width and height that all tiles must have.
        limits: What is read at most.

    Raises:
        ValueError: If the tiles are too many, of another size or type, damaged, or of more than one slide.
    """
    if files[0].suffix.lower() == ".zip":
        (archive,) = files
        name, tiles = _read_zip(archive, tile_size, limits)
    else:
        paths = {path.name: path for path in files}
        if len(paths) < len(files):
            raise ValueError(f"{len(files) - len(paths)} of the tiles have the name of another one; rename them")
        names = _in_order(paths, "the upload", limits)
        bounded = ((name, _read_file(paths[name])) for name in names)
        name, tiles = _name_of(names, "tiles"), _decode(bounded, tile_size, limits)
    with BagStoreWriter(output, {"name": "uploaded tiles", "parameters": {}}) as writer:
        writer.add(name, tiles, labels={})


def png_size(data: bytes) -> tuple[int, int]:
    """Return width and height that a PNG says it has; (0, 0) where it ends before."""
    return int.from_bytes(data[16:20], "big"), int.from_bytes(data[20:24], "big")


def _read_zip(path: Path, tile_size: int, limits: Limits) -> tuple[str, NDArray[np.uint8]]:
    """Return the name of a slide and its tiles."""
    with open_tile_files(path) as archive:
        # What macOS puts beside every file is nobody's tile.
        present = [name for name in archive.names() if not _is_litter(name)]
        names = _in_order(present, path.name, limits)
        bounded = ((name, archive.read(name, _MAX_FILE_BYTES)) for name in names)
        return _name_of(names, path.stem), _decode(bounded, tile_size, limits)


def _in_order(names: Iterable[str], source: str, limits: Limits) -> list[str]:
    """Return the names of the tiles by their numbers, or say what is among them that is no tile."""
    names = sorted(names, key=natural_key)
    if not names:
        raise ValueError(f"{source} holds no file; give at least two PNG tiles of one slide")
    for name in names:
        if not name.lower().endswith(".png"):
            raise ValueError(f"{source} holds {name!r}; give PNG tiles alone")
    if len(names) > limits.max_tiles:
        raise ValueError(f"{source} holds {len(names):,} tiles; at most {limits.max_tiles:,} are read")
    if len(names) == 1:
        raise ValueError(
            f"{source} holds one tile, and attention weighs tiles against each other; "
            "give all tiles of the slide, or the whole slide"
        )
    require_tiles_of_one_slide(names, source)
    return names


def _name_of(names: Sequence[str], otherwise: str) -> str:
    """Return the slide that tiles `{slide}_{i}.png` are of."""
    found = [_OF_A_SLIDE.fullmatch(PurePosixPath(name).stem) for name in names]
    slides = sorted({match[1] for match in found if match})
    if len(slides) > 1:
        raise ValueError(
            f"the tiles are of {len(slides):,} slides ({slides[0]!r}, {slides[1]!r}, ...); give one slide at a time"
        )
    return slides[0] if slides and all(found) else otherwise


def _read_file(path: Path) -> bytes:
    """Return a file that may be a tile."""
    with path.open("rb") as file:
        data = file.read(_MAX_FILE_BYTES + 1)
    if len(data) > _MAX_FILE_BYTES:
        raise ValueError(f"{path.name} is larger than {_MAX_FILE_BYTES:,} bytes: no tile")
    return data


def _decode(files: Iterator[tuple[str, bytes]], tile_size: int, limits: Limits) -> NDArray[np.uint8]:
    """Return the pixels of the tiles."""
    tiles, size = [], 0
    for name, data in files:
        size += len(data)
        if size > limits.max_bytes:
            raise ValueError(f"the tiles unpack to more than {limits.max_upload_mb:,} MB; give fewer")
        if not data.startswith(PNG_SIGNATURE):
            raise ValueError(f"{name} is no PNG picture; give PNG tiles alone")
        width, height = png_size(data)
        if (width, height) != (tile_size, tile_size):
            raise ValueError(
                f"the network was trained on tiles of {tile_size} px, but {name} is {width} x {height} px; "
                f"give tiles of {tile_size} px, or the whole slide"
            )
        tiles.append(decode_tile(data, tile_size, name))
    return np.stack(tiles)


def _is_litter(name: str) -> bool:
    return name.startswith("__MACOSX/") or PurePosixPath(name).name == ".DS_Store"
