"""Reader for the formats of scanner vendors, with OpenSlide."""

import math
from collections.abc import Mapping
from pathlib import Path

import numpy as np
import openslide
from numpy.typing import NDArray

from milpath.slides.readers.rgb import to_rgb
from milpath.slides.readers.slide import Size, Slide, missing_pieces


class OpenSlideSlide(Slide):
    """A slide in a format of OpenSlide: NDPI, MRXS, SCN, BIF, VMS, SVSLIDE, DICOM, Philips TIFF, Aperio JPEG 2000.

    Args:
        path: The file.
        lost: Size of a level to the number of its pieces that the scanner lost, and of all of its pieces.

    Raises:
        ValueError: If OpenSlide cannot read it.
    """

    def __init__(self, path: Path, lost: Mapping[Size, tuple[int, int]] | None = None) -> None:
        super().__init__()
        self.path = path
        self._lost = dict(lost or {})
        try:
            self._slide = openslide.OpenSlide(path)
        except openslide.OpenSlideUnsupportedFormatError:
            raise ValueError(f"{path.name} is not a slide that OpenSlide can read; copy or download it again") from None
        except openslide.OpenSlideError as error:
            if _is_of_another_kind(str(error)):
                raise ValueError(
                    f"{path.name} is of a kind that OpenSlide does not read ({_brief(error)}); convert it to 8-bit RGB "
                    "(bfconvert, or the export of the scanner)"
                ) from None
            raise ValueError(f"{path.name} is a damaged slide ({_brief(error)}); copy or download it again") from None
        self.level_sizes = tuple(Size(*size) for size in self._slide.level_dimensions)
        self.state_resolution(
            *(_number(self._slide.properties.get(f"openslide.mpp-{axis}")) for axis in "xy"),
        )
        self.bounds_offset = (
            _pixels(self._slide.properties.get(openslide.PROPERTY_NAME_BOUNDS_X)),
            _pixels(self._slide.properties.get(openslide.PROPERTY_NAME_BOUNDS_Y)),
        )

    def prepare(self, level: int) -> None:
        """Note pieces that the scanner lost, which OpenSlide shows white."""
        missing, total = self._lost.get(self.level_sizes[level], (0, 0))
        if missing:
            self.note(missing_pieces(missing, total, level))

    def read_region(self, level: int, x: int, y: int, width: int, height: int) -> NDArray[np.uint8]:
        """Return a region inside a level; OpenSlide expects its corner times its own scale of the level."""
        downsample = self._slide.level_downsamples[level]
        corner = round(x * downsample), round(y * downsample)
        try:
            region = self._slide.read_region(corner, level, (width, height))
        except openslide.OpenSlideError as error:
            raise ValueError(f"{self.path.name} cannot be read at level {level}: {_brief(error)}") from None
        return to_rgb(np.asarray(region), alpha="straight")

    def close(self) -> None:
        """Close the file."""
        self._slide.close()


def _is_of_another_kind(reason: str) -> bool:
    """Return whether OpenSlide says that it lacks something, not that the file is damaged."""
    return reason.startswith("Unsupported") or "Unsupported transfer syntax" in reason or "BitsAllocated" in reason


def _brief(error: Exception) -> str:
    """Return the message of an error on one line."""
    return " ".join(f"{error}".split())[:300]


def _pixels(text: str | None) -> int:
    """Return a position in pixels, 0 if it is not stated."""
    return int(text) if text and text.isdecimal() else 0


def _number(text: str | None) -> float | None:
    """Return a positive number, `None` if it is not stated or is not one."""
    try:
        value = float(text) if text else 0.0
    except ValueError:
        return None
    return value if math.isfinite(value) and value > 0 else None
