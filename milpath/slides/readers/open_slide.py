"""Open a slide, whatever its file is called: the content says what it is."""

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
    """Open a slide: TIFF and SVS with tifffile, formats of vendors with OpenSlide, plain pictures with Pillow.

    Args:
        path: The file.

    Returns:
        The slide, to be used in a `with` block.

    Raises:
        FileNotFoundError: If there is no such file.
        ValueError: If it is empty, damaged, or no slide.
    """
    path = Path(path)
    if not path.is_file():
        raise FileNotFoundError(f"no file at {path}")
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
        f"{path.name} is no slide and no picture (it starts with {signature!r}); copy or download it again"
    )


def _open_tiff(path: Path) -> Slide:
    slide = TiffSlide(path)
    if is_vendor_tiff(slide):
        slide.close()
        return _open_vendor_slide(path)
    return slide


def _open_vendor_slide(path: Path) -> Slide:
    # Loading the library takes time that most data sets need not spend.
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        from milpath.slides.readers.openslide_slide import OpenSlideSlide
    return OpenSlideSlide(path)
