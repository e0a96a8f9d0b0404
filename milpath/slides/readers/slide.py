"""Common interface of all slide readers."""

from abc import ABC, abstractmethod
from pathlib import Path
from types import TracebackType
from typing import NamedTuple, Self

import numpy as np
from numpy.typing import NDArray

# A level with at most this many pixels (50 MB) is read once and kept in memory; larger ones are read by region.
WHOLE_LEVEL_PIXELS = 4096 * 4096
# Resolutions outside this range are implausible: scanners and editors write them if they do not know the true one.
_PLAUSIBLE_MICRONS = (0.01, 50.0)


class Size(NamedTuple):
    """Width and height in pixels."""

    width: int
    height: int


class Slide(ABC):
    """An open slide: a pyramid of levels, 0 the largest.

    Attributes:
        path: The file.
        level_sizes: Width and height of each level in pixels.
        microns_per_pixel: Resolution of level 0; `None` if the file does not state it.
        bounds_offset: Left and top edge of the scanned area in pixels of level 0 (MRXS and SCN: OpenSlide's plane is
            larger than the area, to which QuPath crops); (0, 0) for other formats.
    """

    path: Path
    level_sizes: tuple[Size, ...]
    microns_per_pixel: float | None
    bounds_offset: tuple[int, int] = (0, 0)

    def __init__(self) -> None:
        self._kept: tuple[int, NDArray[np.uint8]] | None = None

    @abstractmethod
    def read_region(self, level: int, x: int, y: int, width: int, height: int) -> NDArray[np.uint8]:
        """Return a region inside a level, uint8 RGB `(height, width, 3)`; transparent pixels are white."""

    @abstractmethod
    def close(self) -> None:
        """Close the file."""

    def read(self, level: int, x: int, y: int, width: int, height: int) -> NDArray[np.uint8]:
        """Return a region inside a level, from memory if the level is small enough to be kept.

        Args:
            level: 0 for the largest.
            x: Left edge in pixels of the level.
            y: Top edge.
            width: Width of the region in pixels.
            height: Height of the region in pixels.

        Returns:
            uint8 RGB `(height, width, 3)`.

        Raises:
            ValueError: If the file is damaged in this region.
        """
        size = self.level_sizes[level]
        if size.width * size.height > WHOLE_LEVEL_PIXELS:
            return self.read_region(level, x, y, width, height)
        if self._kept is None or self._kept[0] != level:
            self._kept = (level, self.read_region(level, 0, 0, *size))
        return self._kept[1][y : y + height, x : x + width]

    def downsample(self, level: int) -> float:
        """Return the pixels of level 0 per pixel of a level, the mean of both sides."""
        first, size = self.level_sizes[0], self.level_sizes[level]
        return (first.width / size.width + first.height / size.height) / 2

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        # Frees the pixels immediately, not at the next garbage collection.
        self._kept = None
        self.close()


def plausible_microns(value: float | None) -> float | None:
    """Return a resolution if it is plausible for a microscope, else `None` (72 dpi are 353 microns per pixel)."""
    low, high = _PLAUSIBLE_MICRONS
    return float(value) if value is not None and low <= value <= high else None
