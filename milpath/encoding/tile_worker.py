"""Worker process that reads the tiles of slides and sends them to its parent; it never imports torch.

For each `SlideJob` it answers with messages: a line of JSON and the bytes that the line announces. A pipe holds only a few
tiles: a parent that falls behind stops the worker, so that memory does not depend on the size of a slide.
"""

import json
from collections.abc import Mapping
from dataclasses import asdict
from typing import Any, BinaryIO

import numpy as np

from milpath.slides.cut_slide import cut_places
from milpath.tiling.bag_files import open_bag
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
        _send(target, {"record": asdict(bag.record), "rows": len(rows), "picture": len(bag.picture)}, rows, bag.picture)
        for positions, tiles in cut_places(bag.view, bag.places, job.options):
            for start in range(0, len(positions), TILES_AT_A_TIME):
                part = slice(start, start + TILES_AT_A_TIME)
                pixels = np.ascontiguousarray(tiles[part])
                _send(target, {"tiles": len(pixels)}, positions[part].astype(np.int64).tobytes(), pixels.data)
    return {"num_tiles": bag.record.num_tiles}


def _send(target: BinaryIO, line: Mapping[str, Any], *parts: bytes | memoryview) -> None:
    target.write(json.dumps(line).encode() + b"\n")
    for part in parts:
        target.write(part)
    target.flush()


if __name__ == "__main__":
    main()
