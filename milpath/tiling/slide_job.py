"""The job of a worker for one slide, and the record of its result."""

import io
import json
import math
import zipfile
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any, NamedTuple, Self

import numpy as np

from milpath.slides.tiling_options import TileOptions

# A finished slide is two files: its tiles, and a record with everything else. The record marks it as finished.
TILES_SUFFIX, RECORD_SUFFIX = ".npy", ".zip"
RECORD, ROWS, PICTURE = "record.json", "tiles.csv", "overview.jpg"
# What a worker process prints before its first answer.
READY = b"ready\n"


class TileForm(NamedTuple):
    """What a store holds of each tile: its pixels or its features.

    Attributes:
        shape: `(tile_size, tile_size, 3)` or `(features,)`.
        descr: Type of the values in numpy's notation: "|u1", "<f2" or "<f4".
    """

    shape: tuple[int, ...]
    descr: str = "|u1"

    @property
    def num_bytes(self) -> int:
        """Bytes of one tile."""
        return math.prod(self.shape) * np.dtype(self.descr).itemsize

    def header(self, num_tiles: int) -> bytes:
        """Return the header of a file in numpy's format; its length is the same for any number of tiles."""
        buffer = io.BytesIO()
        content = {"descr": self.descr, "fortran_order": False, "shape": (num_tiles, *self.shape)}
        np.lib.format.write_array_header_1_0(buffer, content)
        return buffer.getvalue()


def pixels_of(tile_size: int) -> TileForm:
    """Return the form of square RGB tiles."""
    return TileForm((tile_size, tile_size, 3))


class OutputError(Exception):
    """Output cannot be written (the disk is full or gone); not a fault of the current slide."""


@dataclass(frozen=True)
class SlideJob:
    """One slide to be cut into a folder.

    Attributes:
        bag_id: Name of the slide.
        path: Its file.
        part: Path of its two files, without their suffixes.
        png_dir: Folder for tiles as `{bag_id}_{i}.png`; `None` writes none.
        mask: File of its mask; `None` if there is none.
        provider: Provider of the mask; `None` if masks are not used.
        options: How it is cut.
        sampled: Whether a sample of its tiles is wanted before the tiles themselves.
    """

    bag_id: str
    path: str
    part: str
    png_dir: str | None
    mask: str | None
    provider: str | None
    options: TileOptions
    sampled: bool = False

    def to_json(self) -> str:
        """Return the job as one line of JSON."""
        return json.dumps(asdict(self))

    @classmethod
    def from_json(cls, text: str) -> Self:
        """Return the job that `to_json` serialised."""
        values: dict[str, Any] = json.loads(text)
        return cls(**values | {"options": TileOptions(**values["options"])})


@dataclass(frozen=True)
class SlideRecord:
    """What a store needs to know about a finished slide; its existence marks the slide as finished.

    Attributes:
        bag_id: Name of the slide.
        file_size: Size of its file in bytes when it was cut.
        file_time: Modification time of its file, in nanoseconds.
        num_tiles: Number of tiles in its bag.
        crc32: Checksum of its file of tiles.
        level: Pyramid level that was read.
        downsample: Pixels of level 0 per pixel of a tile.
        microns_per_pixel: Resolution of the tiles; `None` if unknown.
        has_mask: Whether there was a mask.
        fingerprint: Sampled hash of its file; empty in unfinished work of milpath 0.1.0.
        bounds_x0: Left edge of the scanned area in pixels of level 0; `None` in unfinished work of milpath 0.1.0.
        bounds_y0: Top edge likewise.
        notes: What the user should know of the slide, without its name.
        quality: What the tiles are, from `BagQuality.to_record`; `None` for tiles that were not cut here, and in unfinished
            work of milpath 0.1.0.
    """

    bag_id: str
    file_size: int
    file_time: int
    num_tiles: int
    crc32: int
    level: int
    downsample: float
    microns_per_pixel: float | None
    has_mask: bool
    fingerprint: str = ""
    bounds_x0: int | None = None
    bounds_y0: int | None = None
    notes: tuple[str, ...] = ()
    quality: dict[str, Any] | None = None

    def __post_init__(self) -> None:
        # A list where it comes from JSON.
        object.__setattr__(self, "notes", tuple(self.notes))

    def write(self, path: Path, rows: str, picture: bytes) -> None:
        """Write the record with the slide's rows of `tiles.csv` and its thumbnail."""
        with zipfile.ZipFile(path, "w") as archive:
            archive.writestr(RECORD, json.dumps(asdict(self)))
            archive.writestr(ROWS, rows)
            archive.writestr(PICTURE, picture)

    @classmethod
    def read(cls, path: Path) -> Self | None:
        """Return the record of a finished slide, `None` if it is not finished."""
        try:
            return cls(**json.loads(read_beside(path, RECORD)))
        except (
            FileNotFoundError,
            NotADirectoryError,
            zipfile.BadZipFile,
            KeyError,
            ValueError,
            TypeError,
            RecursionError,
        ):
            # A power failure may leave a partial record: the slide is cut again.
            return None


def read_beside(path: Path, name: str) -> bytes:
    """Return a member that was written with a record: `ROWS` or `PICTURE`."""
    with zipfile.ZipFile(path) as archive:
        return archive.read(name)
