"""Common interface of all slide readers."""

from abc import ABC, abstractmethod
from pathlib import Path
from types import TracebackType
from typing import NamedTuple, Self

import numpy as np
from numpy.typing import NDArray

# A level with at most this many pixels (50 MB) is read once and kept in memory; larger ones are read by region.
WHOLE_LEVEL_PIXELS = 4096 * 4096
# Resolutions outside this range are implausible: scanners and editors write them if they do not know the true one (600 dpi
# of print are 42 microns per pixel).
PLAUSIBLE_MICRONS = (0.05, 20.0)
_ROUNDING = 1e-6
# Pixels whose sides differ by more than this part are not square; scanners state both sides with their own rounding.
_SQUARE = 0.02
# Samples of 16 bits that end here have 14 bits or fewer (cameras give 10 to 14): as 16 bits they are almost black.
_FEW_BITS = 1 << 14


class Size(NamedTuple):
    """Width and height in pixels."""

    width: int
    height: int


class Slide(ABC):
    """An open slide: a pyramid of levels, 0 the largest.

    Attributes:
        path: The file.
        level_sizes: Width and height of each level in pixels.
        microns_per_pixel: Resolution of level 0; `None` if it is unknown: not stated, or not plausible.
        stated_microns: Width and height of a pixel as the file states them, plausible or not.
        notes: What the user should know of this slide, without its name.
        highest_sample: Largest 16-bit sample read so far; 0 for 8 bits.
        bounds_offset: Left and top edge of the scanned area in pixels of level 0 (MRXS and SCN: OpenSlide's plane is
            larger than the area, to which QuPath crops); (0, 0) for other formats.
    """

    path: Path
    level_sizes: tuple[Size, ...]
    microns_per_pixel: float | None = None
    stated_microns: tuple[float | None, float | None] = (None, None)
    highest_sample: int = 0
    bounds_offset: tuple[int, int] = (0, 0)

    def __init__(self) -> None:
        self._kept: tuple[int, NDArray[np.uint8]] | None = None
        self.notes: list[str] = []

    def note(self, text: str) -> None:
        """Add a note, once."""
        if text not in self.notes:
            self.notes.append(text)

    def state_resolution(self, across: float | None, down: float | None) -> None:
        """Keep the width and height of a pixel of level 0 in microns as the file states them."""
        self.stated_microns = (across, down)
        one, other = plausible_microns(across), plausible_microns(down)
        # A file may state one side only.
        self.microns_per_pixel = (
            None if (one is None) != (other is None) and None not in (across, down) else one or other
        )

    @property
    def has_square_pixels(self) -> bool:
        """Whether the pixels are square, as far as the file states their sides."""
        one, other = (plausible_microns(side) for side in self.stated_microns)
        return one is None or other is None or abs(one - other) <= _SQUARE * max(one, other)

    @abstractmethod
    def read_region(self, level: int, x: int, y: int, width: int, height: int) -> NDArray[np.uint8]:
        """Return a region inside a level, uint8 RGB `(height, width, 3)`; transparent pixels are white."""

    def prepare(self, level: int) -> None:  # noqa: B027
        """Check a level before it is read, and note what is missing in it."""

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
        """Return the pixels of level 0 per pixel of a level, of its longer side, which rounding changes least."""
        first, size = self.level_sizes[0], self.level_sizes[level]
        return first.width / size.width if first.width >= first.height else first.height / size.height

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
    return float(value) if value is not None and is_plausible(value) else None


def is_plausible(value: float) -> bool:
    """Return whether a microscope may have this resolution; one at an end of the range may have been rounded."""
    low, high = PLAUSIBLE_MICRONS
    return low * (1 - _ROUNDING) <= value <= high * (1 + _ROUNDING)


def missing_pieces(missing: int, total: int, level: int) -> str:
    """Return the note on pieces of a level that the scanner lost."""
    return f"{missing:,} of {total:,} pieces of level {level} have no data in the file and are white"


def require_all_bits(slide: Slide) -> None:
    """Refuse a slide whose 16-bit samples, as far as they were read, have 14 bits or fewer.

    Raises:
        ValueError: With the number of bits and how to scale them.
    """
    highest = slide.highest_sample
    if 0 < highest < _FEW_BITS:
        bits = max(highest.bit_length(), 8)
        raise ValueError(
            f"the 16-bit values of {slide.path.name} end at {highest}: they have {bits} bits and would be almost "
            f"black; scale them (vips linear in.tif out.tif {1 << (16 - bits)} 0), or convert the slide to 8 bits"
        )
