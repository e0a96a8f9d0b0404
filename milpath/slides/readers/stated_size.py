"""Bounds on the size that a slide states: the work and the memory for it must not come from a few bytes."""

from pathlib import Path

from milpath.records.digests import walk
from milpath.slides.readers.slide import Slide

# The largest slides have 300,000 x 300,000 px. Memory and time grow with what is stated.
_MAX_SIDE, _MAX_PIXELS = 1 << 20, 1 << 38
# Any picture of tissue has more bytes. Smaller slides, such as blank ones, take seconds whatever they have.
_MAX_PIXELS_PER_BYTE, _SMALL_PIXELS = 100_000, 1 << 30


def require_plausible_size(slide: Slide, place: Path) -> None:
    """Refuse a slide whose level 0 is larger than any, or has more pixels than its bytes can hold.

    Args:
        slide: An open slide.
        place: The file, or the folder in which all files of the slide lie.

    Raises:
        ValueError: With what it states, and what to do.
    """
    width, height = slide.level_sizes[0]
    pixels, stated = width * height, f"{slide.path.name} states {width:,} x {height:,} px"
    if max(width, height) > _MAX_SIDE or pixels > _MAX_PIXELS:
        raise ValueError(
            f"{stated}; slides of at most {_MAX_SIDE:,} px a side and {_MAX_PIXELS:,} px in all are read: copy it again, or "
            "write the part to use as a slide of its own (QuPath, export as OME-TIFF)"
        )
    least = pixels // _MAX_PIXELS_PER_BYTE
    if pixels > _SMALL_PIXELS and (held := _bytes_up_to(place, least)) < least:
        raise ValueError(f"{stated} in {held:,} bytes, too few for a picture of tissue; copy or download it again")


def _bytes_up_to(place: Path, enough: int) -> int:
    """Return the bytes of a file, or of the files of a folder, counted no further than to `enough`."""
    if not place.is_dir():
        return place.stat().st_size
    total = 0
    for folder, _, names in walk(place):
        for name in names:
            total += Path(folder, name).lstat().st_size
            if total >= enough:
                return total
    return total
