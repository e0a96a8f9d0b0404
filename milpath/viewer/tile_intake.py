"""Conversion of uploaded tiles to a bag store, without unpacking archives and with limits on every tile."""

import re
from collections.abc import Iterable, Sequence
from pathlib import Path, PurePosixPath

import numpy as np
from numpy.typing import NDArray

from milpath.data.sources.tile_decoding import decode_tile
from milpath.data.store.bag_store_writer import BagStoreWriter
from milpath.slides.tile_files import TooLargeError, ZipFiles
from milpath.slides.uploaded_tiles import UploadedTile, read_tiles, require_plain, upload_names
from milpath.viewer.upload_check import MEBIBYTE, Limits

# Large enough to report the size of a picture that is too large for a tile.
_MAX_FILE_BYTES = 64 * MEBIBYTE
_MIN_TILES = 2
_OF_A_SLIDE = re.compile(r"(.+)_\d+")


def write_tile_bag(files: Sequence[Path], output: Path, tile_size: int, limits: Limits) -> None:
    """Write the tiles of one slide into a bag store.

    Args:
        files: PNG tiles, or one zip of them.
        output: Folder of the new store; its only bag has the name of the slide.
        tile_size: Required width and height of the tiles.
        limits: Limits of an upload.

    Raises:
        ValueError: If there are too many tiles, or they have another size or type, are damaged, or belong to several slides.
    """
    if files[0].suffix.lower() == ".zip":
        (archive,) = files
        name, tiles = _read_zip(archive, tile_size, limits)
    else:
        name, tiles = _read_files(files, tile_size, limits)
    with BagStoreWriter(output, {"name": "uploaded tiles", "parameters": {}}) as writer:
        writer.add(name, tiles, labels={})


def _read_zip(path: Path, tile_size: int, limits: Limits) -> tuple[str, NDArray[np.uint8]]:
    """Return the name of a slide and its tiles."""
    archive = ZipFiles(path, path.name)
    try:
        names = upload_names(archive.names(), path.name, limits.max_tiles, _MIN_TILES)
        require_plain(archive, names)
        files = read_tiles(names, archive.read, max_file_bytes=_MAX_FILE_BYTES, max_bytes=limits.max_bytes)
        return _name_of(names, path.stem), _decode(files, tile_size)
    finally:
        archive.close()


def _read_files(files: Sequence[Path], tile_size: int, limits: Limits) -> tuple[str, NDArray[np.uint8]]:
    """Return the name of a slide and its tiles."""
    paths = {path.name: path for path in files}
    if len(paths) < len(files):
        raise ValueError(f"{len(files) - len(paths)} of the tiles have duplicate names; rename them")
    names = upload_names(paths, "the upload", limits.max_tiles, _MIN_TILES)

    def read(name: str, largest: int) -> bytes:
        with paths[name].open("rb") as file:
            data = file.read(largest + 1)
        if len(data) > largest:
            raise TooLargeError(f"{name} is larger than {largest:,} bytes, which is too large for a tile")
        return data

    tiles = read_tiles(names, read, max_file_bytes=_MAX_FILE_BYTES, max_bytes=limits.max_bytes)
    return _name_of(names, "tiles"), _decode(tiles, tile_size)


def _name_of(names: Sequence[str], otherwise: str) -> str:
    """Return the slide name of tiles `{slide}_{i}.png`."""
    found = [_OF_A_SLIDE.fullmatch(PurePosixPath(name).stem) for name in names]
    slides = sorted({match[1] for match in found if match})
    if len(slides) > 1:
        raise ValueError(
            f"the tiles belong to {len(slides):,} slides ({slides[0]!r}, {slides[1]!r}, ...); upload one slide at a time"
        )
    return slides[0] if slides and all(found) else otherwise


def _decode(files: Iterable[UploadedTile], tile_size: int) -> NDArray[np.uint8]:
    """Return the pixels of the tiles."""
    tiles = []
    for file in files:
        if (file.width, file.height) != (tile_size, tile_size):
            raise ValueError(
                f"the network was trained on tiles of {tile_size} px, but {file.name} is {file.width} x {file.height} px; "
                f"upload tiles of {tile_size} px, or the whole slide"
            )
        tiles.append(decode_tile(file.data, tile_size, file.name))
    return np.stack(tiles)
