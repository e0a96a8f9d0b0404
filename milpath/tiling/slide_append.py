"""Concatenation of the tiles of finished slides into one array, without needing twice the disk space."""

import hashlib
import os
import zlib
from collections.abc import Sequence
from pathlib import Path
from typing import Any, BinaryIO

import numpy as np

from milpath.tiling.slide_job import TILES_SUFFIX, SlideRecord, TileForm
from milpath.tiling.slide_parts import SlideParts

# Finished tiles are deleted once they are in the store: this bounds the disk space that is needed twice.
_BATCH_BYTES = 256 << 20
_BLOCK = 4 << 20


def merge_tiles(parts: SlideParts, records: Sequence[SlideRecord], form: TileForm, target: Path) -> str:
    """Append the tiles of every slide to one array and delete their files.

    An interrupted merge continues after its last complete batch. If the array is already complete and at its final
    path, nothing is done.

    Args:
        parts: The finished slides.
        records: Their records, in the order of the store.
        form: What the store holds of each tile.
        target: Final path of the array.

    Returns:
        SHA-256 of the array's file.

    Raises:
        ValueError: If the tiles of a slide were changed after they were written.
    """
    partial = parts.store_dir / target.name
    counts = [record.num_tiles for record in records]
    header = form.header(sum(counts))
    ends = len(header) + np.cumsum([0, *counts]) * form.num_bytes
    done = len(parts.merged(records))
    if done == len(records) and not partial.exists():
        partial = target
    with partial.open("r+b" if done else "w+b") as file:
        digest = hashlib.sha256()
        if done:
            _digest(file, header, records[:done], form, digest)
        else:
            file.write(header)
            digest.update(header)
        file.truncate(int(ends[done]))
        file.seek(int(ends[done]))
        while done < len(records):
            stop = max(done + 1, int(np.searchsorted(ends, ends[done] + _BATCH_BYTES, side="right")) - 1)
            batch = records[done:stop]
            for record in batch:
                _append(parts.part(record.bag_id, TILES_SUFFIX), record, file, digest)
            file.flush()
            os.fsync(file.fileno())
            parts.set_merged(records, stop)
            for record in batch:
                parts.part(record.bag_id, TILES_SUFFIX).unlink()
            done = stop
    return digest.hexdigest()


def _digest(file: BinaryIO, header: bytes, records: Sequence[SlideRecord], form: TileForm, digest: Any) -> None:
    """Hash the tiles that an earlier run appended, and compare them with the checksum of each slide."""
    file.seek(0)
    if file.read(len(header)) != header:
        raise ValueError("the unfinished store has an unexpected header; delete its folder and cut the slides again")
    digest.update(header)
    for record in records:
        checksum, length = zlib.crc32(form.header(record.num_tiles)), record.num_tiles * form.num_bytes
        while length > 0:
            block = file.read(min(length, _BLOCK))
            if not block:
                raise ValueError(
                    "the unfinished store is shorter than expected; delete its folder and cut the slides again"
                )
            checksum = zlib.crc32(block, checksum)
            digest.update(block)
            length -= len(block)
        if checksum != record.crc32:
            raise ValueError(
                f"the tiles of slide {record.bag_id!r} were damaged in the unfinished store; delete its folder and cut the "
                "slides again"
            )


def _append(path: Path, record: SlideRecord, target: BinaryIO, digest: Any) -> None:
    """Copy the tiles of one slide."""
    checksum = 0
    with path.open("rb") as file:
        np.lib.format.read_magic(file)
        np.lib.format.read_array_header_1_0(file)
        start = file.tell()
        file.seek(0)
        checksum = zlib.crc32(file.read(start))
        while block := file.read(_BLOCK):
            checksum = zlib.crc32(block, checksum)
            digest.update(block)
            target.write(block)
    if checksum != record.crc32:
        path.unlink()
        raise ValueError(
            f"the tiles of slide {record.bag_id!r} were damaged on disk; run the same command again to cut it again"
        )
