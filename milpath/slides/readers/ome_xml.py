"""The images of an OME-TIFF as its OME-XML describes them: size, planes, channels, resolution."""

import re
import xml.etree.ElementTree as ElementTree
from dataclasses import dataclass
from typing import Self

from milpath.slides.readers.stated_resolution import microns_in

_MAX_XML = 16 << 20
# A slide has at most red, green and blue; a file of some KB may list any number.
_MAX_PLANES = 3
_RED_GREEN_BLUE = (("red", "green", "blue"), ("r", "g", "b"))
# RGBA as a signed 32-bit integer.
_RGB_COLOURS = (-16776961, 16711935, 65535)


@dataclass(frozen=True)
class OmeImage:
    """One `Image` of an OME-XML.

    Attributes:
        name: Its name; "" without one.
        width: Width of level 0 in pixels.
        height: Height likewise.
        num_z: Focal planes.
        num_t: Time points.
        num_channels: Channels, each a plane of its own, or one with `samples` samples.
        samples: Samples per pixel of a plane.
        channel_names: Names of the channels; "" without one.
        channel_colours: Their colours as signed RGBA; `None` without one.
        microns: Width and height of a pixel in microns; `None` if not stated.
        pages: Pages of the first planes in their order; `None` for all pages of the file from the first.
        files: Names of the files that hold its planes, as far as they are named.
    """

    name: str
    width: int
    height: int
    num_z: int
    num_t: int
    num_channels: int
    samples: int
    channel_names: tuple[str, ...]
    channel_colours: tuple[int | None, ...]
    microns: tuple[float | None, float | None]
    pages: tuple[int, ...] | None
    files: tuple[str, ...]

    @classmethod
    def of(cls, image: ElementTree.Element) -> Self | None:
        """Return an element `Image`, `None` if it does not say its size."""
        pixels = _child(image, "Pixels")
        if pixels is None:
            return None
        channels = [item for item in pixels if _tag(item) == "Channel"]
        samples = _whole(channels[0].get("SamplesPerPixel"), 1) if channels else 1
        num_samples = _whole(pixels.get("SizeC"), 1)
        return cls(
            name=(image.get("Name") or "").strip(),
            width=_whole(pixels.get("SizeX"), 0),
            height=_whole(pixels.get("SizeY"), 0),
            num_z=_whole(pixels.get("SizeZ"), 1),
            num_t=_whole(pixels.get("SizeT"), 1),
            num_channels=max(1, num_samples // max(1, samples)),
            samples=samples,
            channel_names=tuple(_channel_name(item) for item in channels),
            channel_colours=tuple(_colour(item.get("Color")) for item in channels),
            microns=(_microns(pixels, "X"), _microns(pixels, "Y")),
            pages=_pages(pixels),
            files=_files(pixels),
        )

    @property
    def is_rgb(self) -> bool:
        """Whether its channels are red, green and blue; three without names and colours are taken for these."""
        if self.num_channels != 3:
            return False
        names = tuple(name.casefold() for name in self.channel_names)
        if any(names) and not all(re.fullmatch(r"(channel|ch|c)?[ :_-]*\d+(:\d+)*", name) for name in names if name):
            return names in _RED_GREEN_BLUE
        colours = self.channel_colours
        return colours == _RGB_COLOURS or len({*colours} - {None}) <= 1


def ome_images(description: str) -> list[OmeImage]:
    """Return the images that the description of the first page of a TIFF lists; none unless it is OME-XML."""
    if "<OME" not in description[:4096] or len(description) > _MAX_XML:
        return []
    if "<!DOCTYPE" in description or "<!ENTITY" in description:
        return []  # OME-XML has none; entities may expand without bound
    try:
        root = ElementTree.fromstring(description.encode("utf-8", "replace"))  # noqa: S314
    except (ElementTree.ParseError, ValueError):
        return []
    found = [OmeImage.of(item) for item in root if _tag(item) == "Image"]
    return [image for image in found if image is not None]


def _tag(element: ElementTree.Element) -> str:
    """Return the name of an element without its namespace, which has a date."""
    return str(element.tag).rpartition("}")[2]


def _child(element: ElementTree.Element, name: str) -> ElementTree.Element | None:
    return next((item for item in element if _tag(item) == name), None)


def _whole(text: str | None, default: int) -> int:
    return int(text) if text and text.strip().isdecimal() and len(text.strip()) < 10 else default


def _colour(text: str | None) -> int | None:
    return int(text) if text and re.fullmatch(r"-?\d{1,10}", text.strip()) else None


def _microns(pixels: ElementTree.Element, axis: str) -> float | None:
    """Return the size of a pixel; its unit is microns unless stated."""
    return microns_in(pixels.get(f"PhysicalSize{axis}"), pixels.get(f"PhysicalSize{axis}Unit", "µm"))


def _channel_name(channel: ElementTree.Element) -> str:
    """Return what a channel shows; a wavelength of emission means that it is not a colour of transmitted light."""
    emission = channel.get("EmissionWavelength")
    return (channel.get("Name") or channel.get("Fluor") or (f"emission {emission}" if emission else "")).strip()


def _pages(pixels: ElementTree.Element) -> tuple[int, ...] | None:
    """Return the pages of the planes, in the order of their channels."""
    found: list[tuple[int, int]] = []
    for item in pixels:
        if _tag(item) != "TiffData":
            continue
        if item.get("IFD") is None:
            return None
        first, channel = _whole(item.get("IFD"), 0), _whole(item.get("FirstC"), 0)
        count = min(_whole(item.get("PlaneCount"), 1), _MAX_PLANES)
        found.extend((channel, first + number) for number in range(count))
    return tuple(page for _, page in sorted(found, key=lambda pair: pair[0])) or None


def _files(pixels: ElementTree.Element) -> tuple[str, ...]:
    uuids = [_child(item, "UUID") for item in pixels if _tag(item) == "TiffData"]
    names = [uuid.get("FileName") for uuid in uuids if uuid is not None]
    return tuple(dict.fromkeys(name for name in names if name))
