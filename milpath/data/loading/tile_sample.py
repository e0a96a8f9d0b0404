"""Random tiles of long bags while training."""

from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

# Distinguishes these draws from those of the order of an epoch.
_STREAM = 2


class TileSample(NamedTuple):
    """Which tiles of a bag are used in an epoch: all of a short bag, `max_tiles` at random of a long one.

    The draw depends on seed, epoch and bag only: it is the same after a resumption and for any number of processes.

    Attributes:
        max_tiles: Largest number of tiles of a bag.
        seed: Seed of the training.
        epoch: The epoch.
    """

    max_tiles: int
    seed: int
    epoch: int

    def chosen(self, position: int, length: int) -> NDArray[np.int64] | None:
        """Return the tiles of a bag, `(max_tiles,)` ascending; `None` for all.

        Args:
            position: Position of the bag in its split.
            length: Number of its tiles.

        Example:
            >>> sample = TileSample(max_tiles=3, seed=0, epoch=1)
            >>> sample.chosen(0, 3) is None, len(sample.chosen(0, 1000))
            (True, 3)
        """
        if length <= self.max_tiles:
            return None
        rng = np.random.default_rng([self.seed, self.epoch, position, _STREAM])
        return np.sort(rng.choice(length, self.max_tiles, replace=False)).astype(np.int64)
