"""Conversion of uploaded tiles to a bag store, without unpacking archives and with limits on every tile."""

from collections.abc import Iterable, Sequence
from dataclasses import replace
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from milpath.data.sources.tile_decoding import decode_tile
from milpath.data.store.bag_store_writer import BagStoreWriter
from milpath.slides.tile_files import TooLargeError, ZipFiles
from milpath.slides.uploaded_tiles import UploadedTile, read_tiles, require_plain, upload_names
from milpath.viewer.upload_check import MEBIBYTE, Limits, slide_of_tile

# Large enough to report the size of a picture that is too large for a tile.
_MAX_FILE_BYTES = 64 * MEBIBYTE
_MIN_TILES = 2


def write_tile_bags(slides: Sequence[Sequence[Path]], output: Path, tile_size: int, limits: Limits) -> None:
    """Write the tiles of slides into a bag store.

    Args:
        slides: For each slide its PNG tiles, or one zip of them.
        output: Folder of the new store; each bag has the name of its slide.
        tile_size: Required width and height of the tiles.
        limits: Limits of an upload; `max_tiles` is that of all slides together.

    Raises:
        ValueError: If there are too many tiles, or they have another size or type, are damaged, or files of two slides have
            the name of one.
    """
    names: set[str] = set()
    left = limits.max_tiles
    with BagStoreWriter(output, {"name": "uploaded tiles", "parameters": {}}) as writer:
        for files in slides:
            if left < _MIN_TILES:
                raise ValueError(
                    f"the upload has {len(slides)} slides of more than {limits.max_tiles:,} tiles together, the maximum"
                )
            read = _read_zip if files[0].suffix.lower() == ".zip" else _read_files
            name, tiles = read(files, tile_size, replace(limits, max_tiles=left))
            if name in names:
                raise ValueError(f"two of the files hold tiles of the slide {name!r}; leave one out")
            names.add(name)
            writer.add(name, tiles, labels={})
            left -= len(tiles)


def _read_zip(files: Sequence[Path], tile_size: int, limits: Limits) -> tuple[str, NDArray[np.uint8]]:
    """Return the name of a slide and its tiles."""
    (path,) = files
    archive = ZipFiles(path, path.name, uploaded=True)
    try:
        names = upload_names(archive.names(), path.name, limits.max_tiles, _MIN_TILES)
        require_plain(archive, names)
        tiles = read_tiles(names, archive.read, max_file_bytes=_MAX_FILE_BYTES, max_bytes=limits.max_bytes)
        return _name_of(names, path.stem), _decode(tiles, tile_size)
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
    found = [slide_of_tile(name) for name in names]
    slides = sorted({slide for slide in found if slide})
    if len(slides) > 1:
        raise ValueError(
            f"the tiles belong to {len(slides):,} slides ({slides[0]!r}, {slides[1]!r}, ...); give each slide a zip of "
            "its own"
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
