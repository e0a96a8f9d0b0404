"""Writing the finished bag of one slide atomically."""

import io
import uuid
import zlib
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

import imagecodecs
import numpy as np
from numpy.typing import NDArray

from milpath.drawing.overview import draw_choice, encode_picture
from milpath.records.atomic_files import atomic_path
from milpath.records.digests import sampled_sha256_of_file
from milpath.slides.cut_slide import choose_places, cut_places
from milpath.slides.readers.open_slide import open_slide
from milpath.slides.slide_view import SlideView, view_slide
from milpath.slides.tile_positions import TilePositions
from milpath.slides.tiling_options import TileOptions
from milpath.tiling.slide_job import RECORD_SUFFIX, TILES_SUFFIX, OutputError, SlideJob, SlideRecord
from milpath.tiling.tile_rows import read_labels, tile_rows


def write_slide_bag(job: SlideJob) -> SlideRecord:
    """Cut a slide and write the two files of its bag, and PNG files if requested.

    Raises:
        FileNotFoundError: If a file does not exist.
        ValueError: If the slide or its mask cannot be read, or the slide is blank.
        OutputError: If the results cannot be written.
    """
    status, name = Path(job.path).stat(), Path(job.part).name
    fingerprint = _fingerprint(Path(job.path))
    # Machines that share the disk may write parts at the same time.
    partial = Path(job.part).with_name(f".{name}.{uuid.uuid4().hex[:12]}")
    tiles, rest = partial.with_name(partial.name + TILES_SUFFIX), partial.with_name(partial.name + RECORD_SUFFIX)
    try:
        with open_slide(job.path) as slide:
            view = view_slide(slide, job.options)
            places = choose_places(view, job.options)
            _write_tiles(tiles, view, places, job.options)
            rows = tile_rows(job, view, places, read_labels(job, view, places))
            picture = encode_picture(draw_choice(view, places, job.options.tile_size))
        with writing():
            record = SlideRecord(
                job.bag_id, status.st_size, status.st_mtime_ns, len(places.number), crc32_of(tiles),
                view.level, view.downsample, view.microns_per_pixel, job.mask is not None, fingerprint, *slide.bounds_offset,
            )  # fmt: skip
            record.write(rest, rows, picture)
            if job.png_dir is not None:
                _write_png(tiles, Path(job.png_dir), job.bag_id)
            for path in (tiles, rest):
                path.replace(job.part + path.suffix)
    finally:
        for path in (tiles, rest):
            with suppress(OSError):
                path.unlink()
    return record


def _fingerprint(path: Path) -> str:
    """Return a fingerprint of a slide's file; empty for a slide that is a folder."""
    return sampled_sha256_of_file(path) if path.is_file() else ""


def crc32_of(path: Path) -> int:
    """Return the checksum of a file."""
    value = 0
    with path.open("rb") as file:
        while block := file.read(1 << 20):
            value = zlib.crc32(block, value)
    return value


@contextmanager
def writing() -> Iterator[None]:
    """Raise failures to write as `OutputError`, to distinguish them from failures to read."""
    try:
        yield
    except OSError as error:
        raise OutputError(str(error)) from error


def _write_tiles(path: Path, view: SlideView, places: TilePositions, options: TileOptions) -> None:
    """Write the tiles as they are read, each at its position in the file."""
    shape = (len(places.number), options.tile_size, options.tile_size, 3)
    # The file is not memory-mapped for writing: a full disk would kill the process instead of raising an error.
    with writing():
        path.parent.mkdir(parents=True, exist_ok=True)
        file = path.open("wb", buffering=0)
    with file:
        with writing():
            np.lib.format.write_array_header_1_0(file, {"descr": "|u1", "fortran_order": False, "shape": shape})
            start = file.tell()
        for positions, tiles in cut_places(view, places, options):
            with writing():
                _write_at(file, start, positions, tiles)


def _write_at(file: io.FileIO, start: int, positions: NDArray[np.int64], tiles: NDArray[np.uint8]) -> None:
    """Write tiles at their positions; an unbuffered file may write fewer bytes than requested."""
    for position, tile in zip(positions, tiles, strict=True):
        data = memoryview(tile.tobytes())
        file.seek(start + int(position) * len(data))
        while data:
            data = data[file.write(data) :]


def _write_png(tiles: Path, png_dir: Path, bag_id: str) -> None:
    """Write `{bag_id}_{i}.png`, the layout of the published PANDA tile set."""
    for number, tile in enumerate(np.load(tiles, mmap_mode="r", allow_pickle=False)):
        path = png_dir / f"{bag_id}_{number}.png"
        # Not flushed: the slide counts as cut only once its record exists, and thousands of tiles would wait for the
        # disk.
        with atomic_path(path, durable=False) as partial:
            partial.write_bytes(imagecodecs.png_encode(np.ascontiguousarray(tile)))
