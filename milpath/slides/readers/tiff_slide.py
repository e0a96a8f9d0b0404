"""Reader for TIFF pyramids and SVS with tifffile, which decodes only the segments that a region touches."""

from pathlib import Path
from typing import cast

import numpy as np
import tifffile
from numpy.typing import NDArray

from milpath.slides.readers.slide import Size, Slide, missing_pieces
from milpath.slides.readers.tiff_level import DAMAGE, TiffLevel
from milpath.slides.readers.tiff_pyramid import read_pyramid

# Aperio's JPEG 2000 in colour spaces that only OpenSlide supports.
_VENDOR_COMPRESSIONS = (33003, 33004, 33005)


class VendorTiffError(Exception):
    """A TIFF is in a vendor format that OpenSlide reads.

    Args:
        lost: Size of each image to the number of its pieces without bytes, and of all of its pieces.
    """

    def __init__(self, lost: dict[Size, tuple[int, int]]) -> None:
        super().__init__("a vendor TIFF")
        self.lost = lost


class TiffSlide(Slide):
    """A TIFF file whose pages are the levels of a pyramid (see `tiff_pyramid.read_pyramid`).

    Args:
        path: The file.

    Raises:
        VendorTiffError: If OpenSlide reads it better.
        ValueError: If it is a damaged TIFF, holds no image, or more than one that may be the slide.
    """

    def __init__(self, path: Path) -> None:
        super().__init__()
        self.path = path
        self._file = path.open("rb")
        try:
            self._tiff = tifffile.TiffFile(self._file, name=path.name)
            first = cast(tifffile.TiffPage, self._tiff.pages[0])
        except DAMAGE as error:
            self._file.close()
            raise ValueError(f"{path.name} is a damaged TIFF ({_reason(error)}); copy or download it again") from None
        if _is_vendor_tiff(first):
            lost = _lost_pieces(self._tiff) if first.is_svs else {}
            self.close()
            raise VendorTiffError(lost)
        try:
            pyramid = read_pyramid(self._tiff, path)
        except ValueError as error:
            self.close()
            raise ValueError(f"{path.name} cannot be read: {_reason(error)}") from None
        except DAMAGE as error:
            self.close()
            raise ValueError(f"{path.name} is a damaged TIFF ({_reason(error)}); copy or download it again") from None
        self.levels = pyramid.levels
        self.level_sizes = tuple(Size(int(page.imagewidth), int(page.imagelength)) for page, *_ in self.levels)
        self.state_resolution(*pyramid.microns)
        self._levels: dict[int, list[TiffLevel]] = {}

    def prepare(self, level: int) -> None:
        """Check a level, and note segments that the scanner lost; others may be damaged without harm."""
        if level in self._levels:
            return
        try:
            self._levels[level] = [TiffLevel(self._file, page) for page in self.levels[level]]
        except DAMAGE as error:
            raise ValueError(f"{self.path.name} cannot be read at level {level}: {_reason(error)}") from None
        missing = sum(len(plane.missing) for plane in self._levels[level])
        if missing:
            total = sum(plane.num_segments for plane in self._levels[level])
            self.note(missing_pieces(missing, total, level))

    def read_region(self, level: int, x: int, y: int, width: int, height: int) -> NDArray[np.uint8]:
        """Return a region inside a level, decoding only the segments it touches."""
        self.prepare(level)
        try:
            planes = [plane.read(x, y, width, height) for plane in self._levels[level]]
        except DAMAGE as error:
            raise ValueError(f"{self.path.name} cannot be read at level {level}: {_reason(error)}") from None
        self.highest_sample = max([self.highest_sample, *(plane.highest_sample for plane in self._levels[level])])
        return planes[0] if len(planes) == 1 else np.dstack([plane[:, :, 0] for plane in planes])

    def close(self) -> None:
        """Close the file."""
        self._tiff.close()
        self._file.close()


def _is_vendor_tiff(page: tifffile.TiffPage) -> bool:
    """Return whether a TIFF is in a vendor format that OpenSlide reads better."""
    vendor = page.is_ndpi or page.is_philips or page.is_bif or page.is_scn or _is_trestle(page)
    return bool(vendor or page.compression in _VENDOR_COMPRESSIONS)


def _lost_pieces(tiff: tifffile.TiffFile) -> dict[Size, tuple[int, int]]:
    """Return the pieces of each image that the scanner lost: OpenSlide shows them white and does not say so."""
    lost = {}
    try:
        for page in cast(list[tifffile.TiffPage], list(tiff.pages)):
            counts = np.asarray(page.databytecounts)
            lost[Size(int(page.imagewidth), int(page.imagelength))] = (int((counts == 0).sum()), len(counts))
    except DAMAGE:
        return {}  # OpenSlide refuses the file, or reads it without these pages
    return lost


def _is_trestle(page: tifffile.TiffPage) -> bool:
    """Return whether Trestle's scanner wrote a page: its tiles overlap, which only OpenSlide knows."""
    return str(page.tags.valueof("Software") or "").startswith("MedScan")


def _reason(error: BaseException) -> str:
    """Return the message of an error on one line."""
    return " ".join(f"{error}".split())[:300] or type(error).__name__
