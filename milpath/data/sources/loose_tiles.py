"""Tiles that were already cut, without a label table, as input for predictions."""

import io
from pathlib import Path

import numpy as np
from PIL import Image, UnidentifiedImageError

from milpath.data.loading.threads import map_in_threads
from milpath.data.sources.panda_tiles import numbered_tiles, tiles_by_slide
from milpath.data.sources.tile_decoding import decode_tile, largest_file, warning_of_tile
from milpath.data.store.bag_store import BagStore
from milpath.data.store.bag_store_writer import BagStoreWriter
from milpath.records.data_warning import joined
from milpath.records.digests import walk
from milpath.slides.tile_files import TileFiles, open_tile_files
from milpath.slides.tile_names import first_number, missing_number

_LARGEST_FIRST = 64 * 2**20


def holds_tiles(path: Path, tile_size: int | None = None) -> bool:
    """Return whether a path is a zip archive, or a folder of only square images `{slide}_{i}.png`, i from 0.

    Whole slides may have such names as well, but a folder of slides has other formats, gaps, one image per name, or
    images that are not square. Images of the size of a tile are tiles in spite of gaps and duplicate numbers, which
    `build_tile_store` reports.

    Args:
        path: A file or a folder.
        tile_size: Width and height of the network's tiles; `None` if unknown.
    """
    if path.is_file():
        return path.suffix.lower() == ".zip"
    found = (Path(folder, name) for folder, _, names in walk(path) for name in names if not name.startswith("."))
    files = [file for file in found if file.is_file()]
    slides: dict[str, dict[int, str]] = {}
    try:
        tiles = numbered_tiles((file.relative_to(path).as_posix() for file in files), path)
        for slide, number, name in tiles:
            slides.setdefault(slide, {})[number] = name
        first = next(name for slide, _, name in tiles if len(slides[slide]) > 1)
        with Image.open(path / first) as image:
            width, height = image.size
    except (FileNotFoundError, ValueError, KeyError, StopIteration, UnidentifiedImageError):
        return False
    if len(tiles) < len(files):
        return False
    counted = all(set(numbers) == set(range(len(numbers))) for numbers in slides.values())
    return width == height and ((counted and sum(map(len, slides.values())) == len(files)) or width == tile_size)


def build_tile_store(path: Path, output: Path, tile_size: int) -> dict[str, str]:
    """Write the tiles of every slide into a bag store; a bag contains all tiles of its slide.

    Args:
        path: Folder or zip of `{slide}_{i}.png`.
        output: Folder of the new store.
        tile_size: Width and height that all tiles must have.

    Returns:
        Slides that are not in the store, with the reason.

    Raises:
        ValueError: If no slide can be read; the message gives the first reason.
    """
    failures: dict[str, str] = {}
    said: set[str] = set()
    with open_tile_files(path) as files:
        slides = sorted(tiles_by_slide(files.names(), path).items())
        first = first_number(numbers for _, numbers in slides)
        _require_size(files, slides[0][1], tile_size, path)
        decoded = map_in_threads(lambda slide: _decode(files, slide[1], tile_size, path, first, said), slides)
        source = {"name": "loose tiles", "parameters": {"content": files.content_digest()}}
        with BagStoreWriter(output, source) as writer:
            for (name, _), tiles in zip(slides, decoded, strict=True):
                if isinstance(tiles, str):
                    failures[name] = tiles
                else:
                    writer.add(name, tiles, labels={})
            if warning := joined(sorted(said)):
                writer.extra["warning"] = warning
            if not writer.num_bags:
                name, reason = next(iter(failures.items()))
                raise ValueError(
                    f"none of the {len(failures):,} slides at {path} could be read (first: {name!r}: {reason})"
                )
    return failures


def require_same_tiles(path: Path, store: BagStore) -> None:
    """Refuse a store of loose tiles that was built from other files than the current ones.

    Raises:
        FileExistsError: If they differ; a store of milpath 0.1.0 does not record its files and passes.
    """
    built_from = store.description["source"].get("parameters", {}).get("content")
    if built_from is None:
        return
    with open_tile_files(path) as files:
        if files.content_digest() != built_from:
            raise FileExistsError(
                f"{store.path} was built from other tiles than the current ones at {path}; set another output, or "
                "overwrite=true"
            )


def _require_size(files: TileFiles, numbers: dict[int, str], tile_size: int, path: Path) -> None:
    """Refuse all tiles if the first one has another size; a damaged tile is a failure of only its slide."""
    name = numbers[min(numbers)]
    try:
        with Image.open(io.BytesIO(files.read(name, _LARGEST_FIRST))) as image:
            width, height = image.size
    except (ValueError, OSError):
        return
    if (width, height) != (tile_size, tile_size):
        raise ValueError(
            f"the checkpoint was trained on tiles of {tile_size} px, but {path} contains tiles of {width} x {height} px "
            f"({name}); give tiles of {tile_size} px, or the whole slides"
        )


def _decode(
    files: TileFiles, numbers: dict[int, str], tile_size: int, path: Path, first: int, said: set[str]
) -> np.ndarray | str:
    """Return the tiles of a slide in the order of their numbers, or the reason why they cannot be read.

    `said` gets what they say against themselves.
    """
    if (missing := missing_number(numbers, first)) is not None:
        return f"{path} has {len(numbers):,} tiles of this slide but none with the number {missing}; give all of them"
    largest, tiles = largest_file(tile_size), []
    try:
        for _, name in sorted(numbers.items()):
            data = files.read(name, largest)
            tiles.append(decode_tile(data, tile_size, f"{path}/{name}"))
            said.add(warning_of_tile(data, f"{path}/{name}"))
        return np.stack(tiles)
    except ValueError as error:
        return str(error)
