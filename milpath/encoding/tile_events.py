"""What a stream of tiles consists of: bags that begin, their tiles in any order, and bags that end."""

from dataclasses import dataclass
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from milpath.tiling.slide_job import SlideRecord


@dataclass(frozen=True)
class BagBegun:
    """A bag whose tiles follow.

    Attributes:
        record: What the store needs to know about it; `num_tiles` tiles follow.
        rows: Its lines of `tiles.csv`.
        picture: Thumbnail with the tiles outlined, as JPEG; empty if there is none.
        sample: What its stains are estimated from, if that was asked for: uint8 `(tiles, rows, columns, 3)`, of the tiles
            that `sampled_tiles` names the rows and columns that `sampled_lines` names.
    """

    record: SlideRecord
    rows: str
    picture: bytes = b""
    sample: NDArray[np.uint8] | None = None


class BagTiles(NamedTuple):
    """Some tiles of a bag.

    Attributes:
        bag_id: Name of the bag.
        positions: `(tiles,)` int64, their positions in the bag.
        pixels: uint8 `(tiles, height, width, 3)`.
    """

    bag_id: str
    positions: NDArray[np.int64]
    pixels: NDArray[np.uint8]


@dataclass(frozen=True)
class BagEnded:
    """A bag of which no more tiles follow.

    Attributes:
        bag_id: Name of the bag.
        error: Why its tiles cannot be read; `None` if all were given.
        peak_memory: Peak memory of the process that read it, in bytes.
    """

    bag_id: str
    error: str | None = None
    peak_memory: int = 0


TileEvent = BagBegun | BagTiles | BagEnded
