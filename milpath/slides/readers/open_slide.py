"""Opening a slide with the right reader, chosen by the content of the file."""

import warnings
from collections.abc import Mapping
from pathlib import Path

from milpath.records.digests import require_regular_file
from milpath.slides.readers.czi.czi_slide import CziSlide
from milpath.slides.readers.dicom_header import is_dicom
from milpath.slides.readers.picture_slide import PictureSlide
from milpath.slides.readers.slide import Size, Slide
from milpath.slides.readers.slide_formats import MIRAX_SUFFIX, VENDOR_SUFFIXES, is_folder_slide, why_not_read
from milpath.slides.readers.stated_size import require_plausible_size
from milpath.slides.readers.tiff_slide import TiffSlide, VendorTiffError
from milpath.slides.readers.zarr_slide import ZarrSlide

_TIFF_SIGNATURES = (b"II*\0", b"MM\0*", b"II+\0", b"MM\0+")
_PICTURE_SIGNATURES = (b"\x89PNG", b"\xff\xd8\xff", b"BM", b"GIF8", b"RIFF")
_CZI_SIGNATURE = b"ZISRAWFILE"
_SETTINGS = "Slidedat.ini"
_IN_ITS_PATH = (CziSlide, PictureSlide, TiffSlide, ZarrSlide)


def open_slide(path: str | Path) -> Slide:
    """Open a slide: TIFF and SVS with tifffile, DICOM and vendor formats with OpenSlide, plain images with Pillow.

    OME-Zarr is read chunk by chunk, CZI piece by piece.

    Args:
        path: The file, or the folder of OME-Zarr; for DICOM, one of the instances of the slide, whose
            others are found beside it.

    Returns:
        The slide, to be used in a `with` block.

    Raises:
        FileNotFoundError: If there is no such file.
        ValueError: If it is empty, damaged, not a slide, of a size that is not plausible, or a file of a format that is
            not read.
    """
    path = Path(path)
    slide = _open(path)
    try:
        # The slides of OpenSlide may have files beside the one that is opened.
        require_plausible_size(slide, path if isinstance(slide, _IN_ITS_PATH) else path.parent)
    except BaseException:
        slide.close()
        raise
    return slide


def _open(path: Path) -> Slide:
    if path.is_dir() and is_folder_slide(path.name):
        return ZarrSlide(path)
    if not path.is_file():
        reason = why_not_read(path.name) if path.is_dir() else None
        if reason:
            raise ValueError(reason)
        if path.exists():
            require_regular_file(path)
        raise FileNotFoundError(f"{path} does not exist")
    # The file itself may be a picture: its slide is the folder beside it.
    if path.suffix.lower() == MIRAX_SUFFIX:
        _require_mirax_folder(path)
        return _open_vendor_slide(path)
    with path.open("rb") as file:
        signature = file.read(16)
    if not signature:
        raise ValueError(f"{path.name} is empty (0 bytes); copy or download it again")
    if signature.startswith(_TIFF_SIGNATURES):
        return _open_tiff(path)
    if signature.startswith(_PICTURE_SIGNATURES):
        return PictureSlide(path)
    if signature.startswith(_CZI_SIGNATURE):
        return CziSlide(path)
    if path.suffix.lower() in VENDOR_SUFFIXES or is_dicom(path):
        return _open_vendor_slide(path)
    if reason := why_not_read(path.name, signature):
        raise ValueError(reason)
    raise ValueError(
        f"{path.name} is not a slide or image that can be read (it starts with {signature[:4]!r}); copy or download it again"
    )


def _require_mirax_folder(path: Path) -> None:
    """Refuse an MRXS file whose folder was left behind: the folder is the slide."""
    folder = path.with_suffix("")
    if not folder.is_dir():
        raise ValueError(
            f"{path.name} lacks the folder {folder.name} beside it, which holds the slide and which OpenSlide reads; "
            "copy the folder too"
        )
    if not (folder / _SETTINGS).is_file():
        raise ValueError(f"{path.name} lacks {folder.name}/{_SETTINGS}; copy the whole folder again")


def _open_tiff(path: Path) -> Slide:
    try:
        return TiffSlide(path)
    except VendorTiffError as vendor:
        lost = vendor.lost
    return _open_vendor_slide(path, lost)


def _open_vendor_slide(path: Path, lost: Mapping[Size, tuple[int, int]] | None = None) -> Slide:
    # Loading the library takes time, and most data sets do not need it.
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        from milpath.slides.readers.openslide_slide import OpenSlideSlide
    return OpenSlideSlide(path, lost)
