"""Worker process that reads the tiles of slides and sends them to its parent; it never imports torch.

For each `SlideJob` it answers with messages: a line of JSON and the bytes that the line announces. A pipe holds only a few
tiles: a parent that falls behind stops the worker, so that memory does not depend on the size of a slide.
"""

import json
from collections.abc import Mapping
from dataclasses import asdict
from typing import Any, BinaryIO

import numpy as np
from numpy.typing import NDArray

from milpath.records.stain_sample import sampled_lines, sampled_tiles
from milpath.slides.cut_slide import cut_places
from milpath.slides.tile_positions import TilePositions, read_places
from milpath.tiling.bag_files import CutBag, open_bag
from milpath.tiling.slide_job import SlideJob
from milpath.tiling.worker import serve

# Tiles of one message.
TILES_AT_A_TIME = 16


def main() -> None:
    """Read slides until there are no more."""
    serve(send_tiles)


def send_tiles(job: SlideJob, target: BinaryIO) -> dict[str, Any]:
    """Send the record of a slide, then its tiles as they are read, each with its position in the bag.

    Raises:
        FileNotFoundError: If a file does not exist.
        ValueError: If the slide cannot be read, or is blank.
    """
    with open_bag(job) as bag:
        rows = bag.rows.encode("utf-8")
        sample = sample_of(bag, job.options.tile_size) if job.sampled else np.empty((0, 0, 0, 3), np.uint8)
        begun = {
            "record": asdict(bag.record), "rows": len(rows), "picture": len(bag.picture), "sample": sample.shape
        }  # fmt: skip
        _send(target, begun, rows, bag.picture, sample.data if sample.size else b"")
        for positions, tiles in cut_places(bag.view, bag.places, job.options):
            for start in range(0, len(positions), TILES_AT_A_TIME):
                part = slice(start, start + TILES_AT_A_TIME)
                pixels = np.ascontiguousarray(tiles[part])
                _send(target, {"tiles": len(pixels)}, positions[part].astype(np.int64).tobytes(), pixels.data)
    return {"num_tiles": bag.record.num_tiles}


def sample_of(bag: CutBag, tile_size: int) -> NDArray[np.uint8]:
    """Return what the stains of a slide are estimated from, `(tiles, rows, columns, 3)`; its tiles are read for it."""
    places, chosen, lines = bag.places, sampled_tiles(len(bag.places.x)), sampled_lines(tile_size)
    sample = np.empty((len(chosen), len(lines), len(lines), 3), np.uint8)
    few = TilePositions(places.x[chosen], places.y[chosen], places.number[chosen])
    for positions, tiles in read_places(bag.view, few, tile_size):
        sample[positions] = tiles[:, lines][:, :, lines]
    return sample


def _send(target: BinaryIO, line: Mapping[str, Any], *parts: bytes | memoryview) -> None:
    target.write(json.dumps(line).encode() + b"\n")
    for part in parts:
        target.write(part)
    target.flush()


if __name__ == "__main__":
    main()
