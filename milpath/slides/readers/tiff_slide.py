"""Reader for TIFF pyramids and SVS with tifffile, which decodes only the segments that a region touches."""

import re
import struct
from collections.abc import Sequence
from pathlib import Path
from typing import cast

import numpy as np
import tifffile
from numpy.typing import NDArray

from milpath.slides.readers.slide import Size, Slide, plausible_microns
from milpath.slides.readers.tiff_level import DAMAGE, TiffLevel

_MAX_PAGES = 64
# Aperio's JPEG 2000 in colour spaces that only OpenSlide supports.
_VENDOR_COMPRESSIONS = (33003, 33004, 33005)
_MICRONS_PER_UNIT = {2: 25_400.0, 3: 10_000.0}


class TiffSlide(Slide):
    """A TIFF file whose pages are the levels of a pyramid.

    Other pages (label, macro, thumbnail) are not levels: a level has the aspect ratio of the first page, is smaller
    than the previous level, and is stored in tiles if the first page is.

    Args:
        path: The file.

    Raises:
        ValueError: If it is a damaged TIFF, or its first page is not an image.
    """

    def __init__(self, path: Path) -> None:
        super().__init__()
        self.path = path
        self._file = path.open("rb")
        try:
            self._tiff = tifffile.TiffFile(self._file, name=path.name)
            self.pages = _pyramid(self._tiff)
            self.level_sizes = tuple(Size(int(page.imagewidth), int(page.imagelength)) for page in self.pages)
            self.microns_per_pixel = _microns_per_pixel(self.pages[0])
        except (*DAMAGE, struct.error) as error:
            self._file.close()
            raise ValueError(f"{path.name} is a damaged TIFF ({_reason(error)}); copy or download it again") from None
        self._levels: dict[int, TiffLevel] = {}

    def read_region(self, level: int, x: int, y: int, width: int, height: int) -> NDArray[np.uint8]:
        """Return a region inside a level, decoding only the segments it touches."""
        try:
            # A level is validated when it is first read.
            if level not in self._levels:
                self._levels[level] = TiffLevel(self._file, self.pages[level])
            return self._levels[level].read(x, y, width, height)
        except DAMAGE as error:
            raise ValueError(f"{self.path.name} cannot be read at level {level}: {_reason(error)}") from None

    def close(self) -> None:
        """Close the file."""
        self._tiff.close()
        self._file.close()


def is_vendor_tiff(slide: TiffSlide) -> bool:
    """Return whether a TIFF is in a vendor format that OpenSlide reads better."""
    page = slide.pages[0]
    vendor = page.is_ndpi or page.is_philips or page.is_bif or page.is_scn
    return bool(vendor or page.compression in _VENDOR_COMPRESSIONS)


def _pyramid(tiff: tifffile.TiffFile) -> list[tifffile.TiffPage]:
    """Return the pages that are levels, the largest first."""
    pages: list[tifffile.TiffPage] = []
    for index in range(_MAX_PAGES):
        try:
            pages.append(cast(tifffile.TiffPage, tiff.pages[index]))
        except IndexError:
            break
    if len(pages) < _MAX_PAGES:
        _require_whole_list(tiff, pages)
    if not pages or 0 in (pages[0].imagewidth, pages[0].imagelength):
        raise ValueError("it has no page with an image")
    # Some writers store the smaller levels as sub-IFDs of the first page.
    inner = cast(list[tifffile.TiffPage], list(pages[0].pages or [])[:_MAX_PAGES])
    levels = pages[:1]
    for page in [*inner, *pages[1:]]:
        if _is_next_level(levels[0], levels[-1], page):
            levels.append(page)
    return levels


def _require_whole_list(tiff: tifffile.TiffFile, pages: Sequence[tifffile.TiffPage]) -> None:
    """Refuse a file whose list of pages is broken: the requested level may be among the lost pages.

    The last page must state that no other follows; tifffile treats any broken link as the end.
    """
    form = tiff.tiff
    if not pages or form.is_ndpi:
        return
    file = tiff.filehandle
    file.seek(pages[-1].offset)
    (count,) = struct.unpack(form.tagnoformat, file.read(form.tagnosize))
    file.seek(pages[-1].offset + form.tagnosize + count * form.tagsize)
    if any(file.read(form.offsetsize)):
        raise ValueError("it is truncated: pages are missing at its end")


def _is_next_level(first: tifffile.TiffPage, last: tifffile.TiffPage, page: tifffile.TiffPage) -> bool:
    """Return whether a page is a smaller version of the first one."""
    if page.imagewidth < 1 or page.imagelength < 1 or page.is_tiled != first.is_tiled:
        return False
    if page.imagewidth >= last.imagewidth or page.imagelength >= last.imagelength:
        return False
    if (page.samplesperpixel, page.dtype) != (first.samplesperpixel, first.dtype):
        return False
    # Sides are rounded at each halving: they may be off by a pixel or two, which matters only for a small level.
    across, down = first.imagewidth / page.imagewidth, first.imagelength / page.imagelength
    return abs(across - down) <= max(across, down) * (0.01 + 2 / min(page.imagewidth, page.imagelength))


def _microns_per_pixel(page: tifffile.TiffPage) -> float | None:
    """Return the resolution from Aperio's description or from the resolution tags."""
    found = re.search(r"\bMPP\s*=\s*([0-9.]+)", page.description or "")
    if found:
        try:
            return plausible_microns(float(found[1]))
        except ValueError:
            return None
    unit, resolution = page.tags.valueof("ResolutionUnit"), page.tags.valueof("XResolution")
    if unit is None or resolution is None:
        return None
    numerator, denominator = resolution if isinstance(resolution, tuple) else (resolution, 1)
    micron_per_unit = _MICRONS_PER_UNIT.get(int(unit))
    if micron_per_unit is None or not numerator or not denominator:
        return None
    return plausible_microns(micron_per_unit * denominator / numerator)


def _reason(error: BaseException) -> str:
    """Return the message of an error on one line."""
    return " ".join(f"{error}".split())[:300] or type(error).__name__
