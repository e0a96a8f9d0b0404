"""Choice of the pages of a TIFF that are the levels of the slide; a file that holds several images is refused by name."""

import re
import struct
from collections.abc import Sequence
from pathlib import Path
from typing import NamedTuple, cast

import tifffile

from milpath.slides.readers.ome_xml import OmeImage, ome_images
from milpath.slides.readers.stated_resolution import microns_of_tiff

_MAX_PAGES = 64
_ASSOCIATED = re.compile(r"\b(label|macro|overview|thumbnail|barcode|preview)\b", re.IGNORECASE)
# As Aperio ("...\nlabel 387x463"), Akoya (<ImageType>Label) and others write it; not a word somewhere in a description.
_OF_PAGE = re.compile(r"(\A|\n|<ImageType>)\s*(label|macro|overview|thumbnail|barcode|preview)\b", re.IGNORECASE)
_REDUCED, _MASK = 1, 4
# A second image with at least this part of the pixels of the slide may be tissue; smaller ones are labels or photographs.
_SECOND_SLIDE = 0.1
_CONVERT = "write the one to use as a pyramid of its own (bfconvert or QuPath, export as OME-TIFF)"

Level = tuple[tifffile.TiffPage, ...]


class TiffPyramid(NamedTuple):
    """The slide in a TIFF.

    Attributes:
        levels: The pages of each level, the largest first: one, or those of red, green and blue.
        microns: Width and height of a pixel of level 0 in microns; `None` if not stated.
    """

    levels: list[Level]
    microns: tuple[float | None, float | None]


def read_pyramid(tiff: tifffile.TiffFile, path: Path) -> TiffPyramid:
    """Return the levels of the slide.

    A level is smaller than the one before, has its aspect ratio, and is stored in tiles if the first is. Pages of
    other shapes are labels, photographs and thumbnails.

    Args:
        tiff: The open file.
        path: Its path, for OME-XML that names several files.

    Raises:
        ValueError: If it has no image, pages are missing, or more than one of its images may be the slide.
    """
    pages = _top_pages(tiff)
    images = ome_images(str(pages[0].description or ""))
    if images:
        image = slide_of(images, path.name)
        planes = _planes(image, pages)
        candidates = [page for page in pages if page not in planes]
        levels = [planes, *_smaller(planes, candidates)]
        microns = image.microns if any(image.microns) else microns_of_tiff(planes[0])
        return TiffPyramid(levels, microns)
    _refuse_hyperstack(str(pages[0].description or ""))
    first = _largest(pages)
    others = [page for page in pages if page is not first]
    if first is not pages[0]:
        others.sort(key=_area, reverse=True)
    inner = _inner_pages(first)
    levels = [(first,), *_smaller((first,), others)]
    taken = {id(page) for level in levels for page in level}
    _refuse_rivals(first, [page for page in [*inner, *others] if id(page) not in taken])
    return TiffPyramid(levels, microns_of_tiff(first))


def _top_pages(tiff: tifffile.TiffFile) -> list[tifffile.TiffPage]:
    """Return the pages of the file."""
    pages: list[tifffile.TiffPage] = []
    for index in range(_MAX_PAGES):
        try:
            pages.append(cast(tifffile.TiffPage, tiff.pages[index]))
        except IndexError:
            break
    if len(pages) < _MAX_PAGES:
        _require_whole_list(tiff, pages)
    size_tags = ("ImageWidth", "ImageLength")
    if not pages or any(name not in pages[0].tags for name in size_tags) or not _area(pages[0]):
        raise ValueError("its first page has no size; copy or download it again")
    return pages


def _largest(pages: Sequence[tifffile.TiffPage]) -> tifffile.TiffPage:
    """Return the page of level 0: the first, unless a larger one follows a thumbnail or a label."""
    if pages[0].is_svs:
        return pages[0]
    # In a slide of tiles, a page of strips is a label or a thumbnail.
    candidates = [page for page in pages if page.is_tiled or not pages[0].is_tiled]
    return max(candidates, key=lambda page: 0 if _is_associated(page) else _area(page))


def slide_of(images: Sequence[OmeImage], file_name: str) -> OmeImage:
    """Return the image that is the slide: the largest that is not a label, a photograph or a thumbnail."""
    if len({name for image in images for name in image.files}) > 1:
        images = [image for image in images if image.files == (file_name,)]
        if not images:
            raise ValueError(f"its planes lie in several files; {_CONVERT}")
    slides = [image for image in images if not _ASSOCIATED.search(image.name)] or list(images)
    slide = max(slides, key=lambda image: image.width * image.height)
    for count, what in ((slide.num_z, "focal planes (Z)"), (slide.num_t, "time points (T)")):
        if count > 1:
            raise ValueError(f"it holds {count} {what}, and a slide is one; {_CONVERT}")
    rivals = [
        image
        for image in slides
        if image is not slide
        and image.width * image.height >= _SECOND_SLIDE * slide.width * slide.height
        and not _same_shape((image.width, image.height), (slide.width, slide.height))
    ]
    if any((image.width, image.height) == (slide.width, slide.height) for image in slides if image is not slide):
        rivals.extend(image for image in slides if image is not slide)
    if rivals:
        named = ", ".join(f"{image.name or 'unnamed'} {image.width} x {image.height}" for image in [slide, *rivals][:4])
        raise ValueError(f"it holds {1 + len(rivals)} images that may be the slide ({named}); {_CONVERT}")
    return slide


def _planes(image: OmeImage, pages: Sequence[tifffile.TiffPage]) -> Level:
    """Return the pages of an image: one, or red, green and blue."""
    numbers = image.pages if image.pages is not None else tuple(range(min(image.num_channels, 3)))
    if image.num_channels == 1 or (numbers[0] < len(pages) and pages[numbers[0]].samplesperpixel == 3):
        numbers = numbers[:1]
    elif not image.is_rgb:
        names = [name for name in image.channel_names if name]
        named = f" ({', '.join(names[:6])})" if names else ""
        raise ValueError(f"it holds {image.num_channels} channels{named} instead of red, green and blue; {_CONVERT}")
    else:
        numbers = numbers[: image.num_channels]
    if missing := [number for number in numbers if number >= len(pages)]:
        raise ValueError(
            f"its OME-XML lists page {missing[0]}, but it has {len(pages)} pages; copy or download it again"
        )
    planes = tuple(pages[number] for number in numbers)
    sizes = {(page.imagewidth, page.imagelength, page.samplesperpixel, page.dtype) for page in planes}
    if len(planes) > 1 and (len(sizes) > 1 or planes[0].samplesperpixel != 1):
        raise ValueError("its red, green and blue planes differ in size or kind; copy or download it again")
    return planes


def _smaller(planes: Level, others: Sequence[tifffile.TiffPage]) -> list[Level]:
    """Return the smaller levels of the planes: their sub-IFDs, then other pages of the file."""
    inner = list(zip(*(_inner_pages(page) for page in planes), strict=False))
    candidates: list[Level] = list(inner)
    if len(planes) == 1:
        candidates += [(page,) for page in others]
    levels = [planes]
    for level in candidates:
        if all(_is_next_level(planes[0], levels[-1][0], page) for page in level):
            levels.append(level)
    return levels[1:]


def _inner_pages(page: tifffile.TiffPage) -> list[tifffile.TiffPage]:
    """Return the sub-IFDs of a page: the first of any number, which would all be read from one place."""
    return cast(list[tifffile.TiffPage], (page.pages or [])[:_MAX_PAGES])


def _refuse_hyperstack(description: str) -> None:
    """Refuse a stack of ImageJ, which may have a single page for all of its planes."""
    if not description.startswith("ImageJ="):
        return
    kinds = {"channels": "channels", "slices": "focal planes", "frames": "time points", "images": "images"}
    for key, what in kinds.items():
        found = re.search(rf"^{key}=(\d+)", description, re.MULTILINE)
        if found and int(found[1]) > 1:
            raise ValueError(f"it is an ImageJ stack of {found[1]} {what}, and a slide is one image; {_CONVERT}")


def _refuse_rivals(first: tifffile.TiffPage, rest: Sequence[tifffile.TiffPage]) -> None:
    """Refuse a file with further images that may be the slide: planes, channels, or other pieces of tissue."""
    if first.is_svs:
        # Its thumbnail, label and macro are in strips; the thumbnail of a small slide may be as large as the slide.
        rest = [page for page in rest if page.is_tiled]
    sizes = [(page.imagewidth, page.imagelength) for page in rest if not _is_associated(page)]
    same = sum(size == (first.imagewidth, first.imagelength) for size in sizes)
    size = f"{first.imagewidth} x {first.imagelength}"
    if same:
        raise ValueError(
            f"it holds {same + 1} images of {size} px (channels, focal planes or time points), and a slide is one; "
            f"{_CONVERT}"
        )
    rivals = [
        page
        for page in rest
        if not _is_associated(page)
        and page.is_tiled == first.is_tiled
        and _area(page) >= _SECOND_SLIDE * _area(first)
        and not _same_shape((page.imagewidth, page.imagelength), (first.imagewidth, first.imagelength))
    ]
    if rivals:
        other = f"{rivals[0].imagewidth} x {rivals[0].imagelength}"
        raise ValueError(f"it holds {len(rivals) + 1} images that may be the slide ({size}, {other} px); {_CONVERT}")


def _is_associated(page: tifffile.TiffPage) -> bool:
    """Return whether a page says that it is a label, a photograph, a thumbnail or a mask."""
    kind = int(page.subfiletype or 0)
    if kind & _MASK or page.bitspersample == 1:
        return True
    # Aperio writes 9 for the macro; its label and the levels of others are only "reduced".
    return bool(kind & _REDUCED and kind > _REDUCED) or bool(_OF_PAGE.search(str(page.description or "")[:4096]))


def _area(page: tifffile.TiffPage) -> int:
    return int(page.imagewidth) * int(page.imagelength)


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
        raise ValueError("it is truncated: pages are missing at its end; copy or download it again")


def _is_next_level(first: tifffile.TiffPage, last: tifffile.TiffPage, page: tifffile.TiffPage) -> bool:
    """Return whether a page is a smaller version of the first one."""
    if page.imagewidth < 1 or page.imagelength < 1 or page.is_tiled != first.is_tiled:
        return False
    if page.imagewidth >= last.imagewidth or page.imagelength >= last.imagelength:
        return False
    if (page.samplesperpixel, page.dtype) != (first.samplesperpixel, first.dtype):
        return False
    return _same_shape((page.imagewidth, page.imagelength), (first.imagewidth, first.imagelength))


def _same_shape(small: tuple[int, int], large: tuple[int, int]) -> bool:
    """Return whether a size is another reduced; sides are rounded at each halving, which matters for a small level."""
    if min(small) < 1:
        return False
    across, down = large[0] / small[0], large[1] / small[1]
    return abs(across - down) <= max(across, down) * (0.01 + 2 / min(small))
