"""What a worker is asked to do with one slide, and what it hands back."""

import json
import zipfile
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any, Self

from milpath.slides.tiling_options import TileOptions

# A finished slide is two files beside each other: its tiles, and all else. The second one says that it is finished.
TILES_SUFFIX, RECORD_SUFFIX = ".npy", ".zip"
RECORD, ROWS, PICTURE = "record.json", "tiles.csv", "overview.jpg"
# What a process that cuts slides says before it answers for the first of them.
READY = b"ready\n"


class OutputError(Exception):
    """Nothing more can be written: the disk is full or gone. No fault of the slide at work."""


@dataclass(frozen=True)
class SlideJob:
    """One slide to be cut into a folder.

    Attributes:
        bag_id: Name of the slide.
        path: Its file.
        part: Where its two files are written, without their suffixes.
        png_dir: Where tiles go as `{bag_id}_{i}.png`; None for nowhere.
        mask: File of its mask; None if there is none.
        provider: Who drew the mask; None where masks are not used at all.
        options: How it is cut.
    """

    bag_id: str
    path: str
    part: str
    png_dir: str | None
    mask: str | None
    provider: str | None
    options: TileOptions

    def to_json(self) -> str:
        """Return the job in one line."""
        return json.dumps(asdict(self))

    @classmethod
    def from_json(cls, text: str) -> Self:
        """Return the job that `to_json` wrote."""
        values: dict[str, Any] = json.loads(text)
        return cls(**values | {"options": TileOptions(**values["options"])})


@dataclass(frozen=True)
class SlideRecord:
    """What a store needs to know of a finished slide; its presence says that the slide is finished.

    Attributes:
        bag_id: Name of the slide.
        file_size: Bytes of its file when it was cut.
        file_time: Time of its last change, in nanoseconds.
        num_tiles: Tiles of its bag.
        crc32: Checksum of the file of tiles.
        level: Level of the pyramid that was read.
        downsample: Pixels of level 0 per pixel of a tile.
        microns_per_pixel: Of the tiles; None if not known.
        has_mask: Whether there was a mask.
        fingerprint: Sampled hash of its file; empty in work that milpath 0.1.0 began.
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

    def write(self, path: Path, rows: str, picture: bytes) -> None:
        """Write the record with the rows of `tiles.csv` and the picture of the slide."""
        with zipfile.ZipFile(path, "w") as archive:
            archive.writestr(RECORD, json.dumps(asdict(self)))
            archive.writestr(ROWS, rows)
            archive.writestr(PICTURE, picture)

    @classmethod
    def read(cls, path: Path) -> Self | None:
        """Return the record of a finished slide, None if it is not finished."""
        try:
            return cls(**json.loads(read_beside(path, RECORD)))
        except (FileNotFoundError, NotADirectoryError, zipfile.BadZipFile, KeyError, ValueError, TypeError):
            # Half a record is what a machine that lost power may leave: the slide is cut again.
            return None


def read_beside(path: Path, name: str) -> bytes:
    """Return what was written with a record: `ROWS` or `PICTURE`."""
    with zipfile.ZipFile(path) as archive:
        return archive.read(name)
