"""Opening a slide with the right reader, chosen by the content of the file."""

import warnings
from pathlib import Path

from milpath.slides.readers.picture_slide import PictureSlide
from milpath.slides.readers.slide import Slide
from milpath.slides.readers.tiff_slide import TiffSlide, is_vendor_tiff

_TIFF_SIGNATURES = (b"II*\0", b"MM\0*", b"II+\0", b"MM\0+")
_PICTURE_SIGNATURES = (b"\x89PNG", b"\xff\xd8\xff", b"BM", b"GIF8", b"RIFF")
_VENDOR_SUFFIXES = (".mrxs", ".svslide")
SLIDE_SUFFIXES = (
    ".tif", ".tiff", ".svs", ".ndpi", ".scn", ".bif", *_VENDOR_SUFFIXES, ".png", ".jpg", ".jpeg", ".bmp", ".webp"
)  # fmt: skip


def open_slide(path: str | Path) -> Slide:
    """Open a slide: TIFF and SVS with tifffile, vendor formats with OpenSlide, plain images with Pillow.

    Args:
        path: The file.

    Returns:
        The slide, to be used in a `with` block.

    Raises:
        FileNotFoundError: If there is no such file.
        ValueError: If it is empty, damaged, or not a slide.
    """
    path = Path(path)
    if not path.is_file():
        raise FileNotFoundError(f"{path} does not exist")
    with path.open("rb") as file:
        signature = file.read(4)
    if not signature:
        raise ValueError(f"{path.name} is empty (0 bytes); copy or download it again")
    if signature in _TIFF_SIGNATURES:
        return _open_tiff(path)
    if signature.startswith(_PICTURE_SIGNATURES):
        return PictureSlide(path)
    if path.suffix.lower() in _VENDOR_SUFFIXES:
        return _open_vendor_slide(path)
    raise ValueError(
        f"{path.name} is not a slide or image that can be read (it starts with {signature!r}); copy or download it again"
    )


def _open_tiff(path: Path) -> Slide:
    slide = TiffSlide(path)
    if is_vendor_tiff(slide):
        slide.close()
        return _open_vendor_slide(path)
    return slide


def _open_vendor_slide(path: Path) -> Slide:
    # Loading the library takes time, and most data sets do not need it.
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        from milpath.slides.readers.openslide_slide import OpenSlideSlide
    return OpenSlideSlide(path)
