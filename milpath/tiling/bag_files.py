"""Writing the finished bag of one slide atomically."""

import uuid
import zlib
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from dataclasses import replace
from pathlib import Path
from types import TracebackType
from typing import Any, NamedTuple, Self

import imagecodecs
import numpy as np
from numpy.typing import NDArray

from milpath.drawing.overview import CELL_SIZE, draw_choice, encode_picture
from milpath.records.atomic_files import atomic_path
from milpath.records.digests import sampled_sha256_of_file, size_and_time
from milpath.slides.bag_quality import measure_bag
from milpath.slides.cut_slide import choose_places, cut_places
from milpath.slides.readers.open_slide import open_slide
from milpath.slides.slide_view import SlideView, thumbnail, view_slide
from milpath.slides.tile_positions import TilePositions
from milpath.slides.tissue import find_tissue, survey
from milpath.tiling.slide_job import (
    RECORD_SUFFIX,
    TILES_SUFFIX,
    OutputError,
    SlideJob,
    SlideRecord,
    TileForm,
    pixels_of,
)
from milpath.tiling.tile_rows import read_labels, tile_rows


class CutBag(NamedTuple):
    """A slide whose tiles are chosen but not read.

    Attributes:
        view: The slide at the resolution of the tiles.
        places: Positions of the tiles.
        rows: The lines of the slide in `tiles.csv`.
        picture: Thumbnail with the tiles outlined, as JPEG.
        record: Its record, without the checksum of its tiles.
    """

    view: SlideView
    places: TilePositions
    rows: str
    picture: bytes
    record: SlideRecord


@contextmanager
def open_bag(job: SlideJob) -> Iterator[CutBag]:
    """Open a slide and choose its tiles; they are read while the block runs.

    Raises:
        FileNotFoundError: If a file does not exist.
        ValueError: If the slide or its mask cannot be read.
    """
    (size, time), fingerprint = size_and_time(job.path), sampled_sha256_of_file(job.path)
    with open_slide(job.path) as slide:
        view = view_slide(slide, job.options)
        slide.prepare(view.level)
        small = thumbnail(slide, CELL_SIZE)
        # Without a map, the check of the tiles uses the thumbnail, which is read anyway: no second pass over the slide.
        options = job.options
        tissue = find_tissue(view, options) if options.needs_map else survey(view, small[0], options.tile_size)
        places = choose_places(view, job.options, tissue)
        rows = tile_rows(job, view, places, read_labels(job, view, places))
        picture = encode_picture(draw_choice(view, places, job.options.tile_size, small=small))
        quality = measure_bag(view, places, job.options.tile_size, tissue)
        record = SlideRecord(
            job.bag_id, size, time, len(places.number), 0, view.level, view.downsample,
            view.microns_per_pixel, job.mask is not None, fingerprint, *slide.bounds_offset, tuple(slide.notes),
            quality.to_record(),
        )  # fmt: skip
        yield CutBag(view, places, rows, picture, record)


def write_slide_bag(job: SlideJob) -> SlideRecord:
    """Cut a slide and write the two files of its bag, and PNG files if requested.

    Raises:
        FileNotFoundError: If a file does not exist.
        ValueError: If the slide or its mask cannot be read, or the slide is blank.
        OutputError: If the results cannot be written.
    """
    with open_bag(job) as bag, BagFiles(job, pixels_of(job.options.tile_size), bag.record.num_tiles) as files:
        for positions, tiles in cut_places(bag.view, bag.places, job.options):
            files.write(positions, tiles)
        with writing():
            if job.png_dir is not None:
                _write_png(files.tiles, Path(job.png_dir), job.bag_id)
            return files.finish(bag.record, bag.rows, bag.picture)


class BagFiles:
    """Context manager that writes the two files of a slide, which appear under their names only when they are complete.

    Args:
        job: The slide.
        form: What is written of each tile.
        num_tiles: Number of its tiles.

    Attributes:
        tiles: The unfinished file of tiles.
    """

    def __init__(self, job: SlideJob, form: TileForm, num_tiles: int) -> None:
        self._part = job.part
        # Machines that share the disk may write parts at the same time.
        partial = Path(job.part).with_name(f".{Path(job.part).name}.{uuid.uuid4().hex[:12]}")
        self.tiles, self._rest = (partial.with_name(partial.name + suffix) for suffix in (TILES_SUFFIX, RECORD_SUFFIX))
        header = form.header(num_tiles)
        self._start, self._form = len(header), form
        # The file is not memory-mapped for writing: a full disk would kill the process instead of raising an error.
        with writing():
            self.tiles.parent.mkdir(parents=True, exist_ok=True)
            self._file = self.tiles.open("wb", buffering=0)
            self._write_at(0, header)

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._file.close()
        for path in (self.tiles, self._rest):
            with suppress(OSError):
                path.unlink()

    def write(self, positions: NDArray[np.int64], tiles: NDArray[Any]) -> None:
        """Write tiles at their positions in the bag."""
        with writing():
            for position, tile in zip(positions, tiles, strict=True):
                self._write_at(self._start + int(position) * self._form.num_bytes, tile.tobytes())

    def finish(self, record: SlideRecord, rows: str, picture: bytes) -> SlideRecord:
        """Move the files to their names; the record, which marks the slide as finished, comes last."""
        with writing():
            self._file.close()
            record = replace(record, crc32=crc32_of(self.tiles))
            record.write(self._rest, rows, picture)
            for path in (self.tiles, self._rest):
                path.replace(self._part + path.suffix)
        return record

    def _write_at(self, position: int, content: bytes) -> None:
        """Write bytes at a position; an unbuffered file may write fewer than requested."""
        data = memoryview(content)
        self._file.seek(position)
        while data:
            data = data[self._file.write(data) :]


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


def _write_png(tiles: Path, png_dir: Path, bag_id: str) -> None:
    """Write `{bag_id}_{i}.png`, the layout of the published PANDA tile set."""
    for number, tile in enumerate(np.load(tiles, mmap_mode="r", allow_pickle=False)):
        path = png_dir / f"{bag_id}_{number}.png"
        # Not flushed: the slide counts as cut only once its record exists, and thousands of tiles would wait for the
        # disk.
        with atomic_path(path, durable=False) as partial:
            partial.write_bytes(imagecodecs.png_encode(np.ascontiguousarray(tile)))
