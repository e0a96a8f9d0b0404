"""Reader for OME-Zarr (OME-NGFF 0.4 on Zarr 2, 0.5 on Zarr 3): a folder whose arrays are the levels of a pyramid."""

import re
from collections.abc import Mapping
from pathlib import Path, PurePosixPath
from typing import Any

import numpy as np
from numpy.typing import NDArray

from milpath.slides.readers.ome_xml import OmeImage, ome_images
from milpath.slides.readers.rgb import to_rgb
from milpath.slides.readers.slide import Size, Slide
from milpath.slides.readers.stated_resolution import microns_in
from milpath.slides.readers.tiff_pyramid import slide_of
from milpath.slides.readers.zarr_array import ZarrArray, read_metadata

_MAX_LEVELS, _MAX_XML = 32, 16 << 20
_CONVERT = "write the image to use as an OME-TIFF pyramid (raw2ometiff --rgb)"
_SIDES = 0.02
_RED_GREEN_BLUE = ("ff0000", "00ff00", "0000ff")


class ZarrSlide(Slide):
    """An OME-Zarr image in colour or grey, of 8 or 16 bits; of several images in a folder, the one that is the slide.

    Args:
        path: The folder.

    Raises:
        ValueError: If it is damaged, not an OME-Zarr image, or holds more than one plane or image that may be the slide.
    """

    def __init__(self, path: Path) -> None:
        super().__init__()
        self.path = path
        try:
            self._open(*_image_of(path))
        except (KeyError, TypeError, AttributeError, IndexError, OverflowError) as error:
            raise ValueError(
                f"{path.name} has damaged metadata ({type(error).__name__}); copy the folder again"
            ) from None
        except ValueError as error:
            raise ValueError(f"{path.name} cannot be read: {error}") from None

    def _open(self, folder: Path, attributes: Mapping[str, Any]) -> None:
        scales = attributes["multiscales"]
        if len(scales) != 1:
            raise ValueError(f"it holds {len(scales)} images that may be the slide; {_CONVERT}")
        axes = [axis if isinstance(axis, str) else axis["name"] for axis in scales[0].get("axes") or "tczyx"]
        if not {"y", "x"} <= set(axes) <= set("tczyx") or len(set(axes)) != len(axes):
            raise ValueError(f"its axes are {axes[:8]}, expected y and x, and t, c, z at most")
        self._axes = "".join(axes)
        datasets = scales[0]["datasets"]
        if not 1 <= len(datasets) <= _MAX_LEVELS:
            raise ValueError(f"it has {len(datasets)} levels")
        self._arrays = [ZarrArray(folder / _inside(item["path"])) for item in datasets]
        for array in self._arrays:
            self._require_plane(array)
        self._require_colours(attributes)
        self.level_sizes = tuple(
            Size(array.shape[self._axes.index("x")], array.shape[self._axes.index("y")]) for array in self._arrays
        )
        self._require_pyramid()
        self.state_resolution(*_microns(scales[0], datasets[0], axes))

    def _require_plane(self, array: ZarrArray) -> None:
        if len(array.shape) != len(self._axes):
            raise ValueError(f"an array has {len(array.shape)} axes instead of {len(self._axes)}")
        for axis, what in (("z", "focal planes (Z)"), ("t", "time points (T)")):
            if axis in self._axes and (count := array.shape[self._axes.index(axis)]) > 1:
                raise ValueError(f"it holds {count} {what}, and a slide is one; {_CONVERT}")

    def _require_colours(self, attributes: Mapping[str, Any]) -> None:
        """Refuse channels of fluorescence; three without a colour are taken for red, green and blue."""
        counts = {array.shape[self._axes.index("c")] if "c" in self._axes else 1 for array in self._arrays}
        channels = (attributes.get("omero") or {}).get("channels") or []
        names = [str(channel.get("label") or channel.get("color") or "?")[:40] for channel in channels]
        named = f" ({', '.join(names[:6])})" if names else ""
        if counts not in ({1}, {3}):
            raise ValueError(f"it holds {max(counts)} channels{named} instead of red, green and blue; {_CONVERT}")
        if counts == {3} and channels:
            colours = tuple(str(channel.get("color")).lower().lstrip("#")[:6] for channel in channels)
            labels = tuple(str(channel.get("label")).lower() for channel in channels)
            plain = all(re.fullmatch(r"none|(channel|ch|c)?[ :_-]*\d+(:\d+)*", label) for label in labels)
            if labels in (("red", "green", "blue"), ("r", "g", "b")):
                return
            if not (plain and (colours == _RED_GREEN_BLUE or len({*colours}) == 1)):
                raise ValueError(f"it holds 3 channels{named} instead of red, green and blue; {_CONVERT}")

    def _require_pyramid(self) -> None:
        """Refuse levels that grow, or of another shape."""
        first = self.level_sizes[0]
        for before, size in zip(self.level_sizes, self.level_sizes[1:], strict=False):
            across, down = first.width / size.width, first.height / size.height
            slack = max(_SIDES, 2 / min(size))  # each program rounds in its own way
            if size.width > before.width or size.height > before.height or abs(across / down - 1) > slack:
                raise ValueError(f"a level of {size.width} x {size.height} px does not belong to {tuple(first)}")

    def read_region(self, level: int, x: int, y: int, width: int, height: int) -> NDArray[np.uint8]:
        """Return a region inside a level, decoding only the chunks it touches."""
        array = self._arrays[level]
        spans = {"x": slice(x, x + width), "y": slice(y, y + height)}
        where = [spans.get(axis, slice(0, size)) for axis, size in zip(self._axes, array.shape, strict=True)]
        try:
            pixels = array.read(where)
        except (OSError, ValueError) as error:
            raise ValueError(f"{self.path.name} cannot be read at level {level}: {error}; copy it again") from None
        if array.missing:
            self.note(
                f"pieces of level {level} are not stored; they have the value {array.fill}, which it states for them"
            )
        kept = [axis for axis in self._axes if axis in "cyx"]
        pixels = pixels.squeeze(tuple(i for i, axis in enumerate(self._axes) if axis in "tz"))
        pixels = pixels.transpose([kept.index(axis) for axis in "yxc" if axis in kept])
        pixels = pixels.astype(array.dtype.newbyteorder("="), copy=False).reshape(height, width, -1)
        if pixels.dtype == np.uint16:
            self.highest_sample = max(self.highest_sample, int(pixels.max(initial=0)))
        return to_rgb(pixels)

    def close(self) -> None:
        """Forget the chunks; no file stays open."""
        for array in self._arrays:
            array.forget()


def _image_of(path: Path) -> tuple[Path, Mapping[str, Any]]:
    """Return the folder and the attributes of the image that is the slide."""
    attributes = _attributes(path)
    if "multiscales" in attributes:
        return path, attributes
    if "plate" in attributes or "bioformats2raw.layout" not in attributes:
        raise ValueError(f"it is not an OME-Zarr image: no multiscales in its metadata; {_CONVERT}")
    images = _images_of(path)
    if not images:
        if (path / "1").is_dir():
            raise ValueError(
                f"it holds several images, and no OME/METADATA.ome.xml says which is the slide; {_CONVERT}"
            )
        return path / "0", _attributes(path / "0")
    folder = path / str(images.index(slide_of(images, path.name)))
    return folder, _attributes(folder)


def _images_of(path: Path) -> list[OmeImage]:
    """Return the images that the OME-XML beside them lists, in the order of their folders."""
    try:
        with (path / "OME/METADATA.ome.xml").open("rb") as file:
            return ome_images(file.read(_MAX_XML).decode("utf-8", "replace"))
    except OSError:
        return []


def _attributes(folder: Path) -> Mapping[str, Any]:
    """Return the attributes of a group, wherever its version keeps them."""
    if (folder / ".zattrs").is_file():
        return read_metadata(folder / ".zattrs")
    attributes = read_metadata(folder / "zarr.json").get("attributes") or {}
    return dict(attributes["ome"])


def _inside(path: Any) -> PurePosixPath:
    """Return the path of an array below its group."""
    relative = PurePosixPath(str(path))
    if not isinstance(path, str) or relative.is_absolute() or not relative.parts or ".." in relative.parts:
        raise ValueError(f"a level lies outside of the folder ({str(path)[:60]!r})")
    return relative


def _microns(
    scale: Mapping[str, Any], dataset: Mapping[str, Any], axes: list[str]
) -> tuple[float | None, float | None]:
    """Return width and height of a pixel of level 0, `None` if not stated."""
    factors = [1.0] * len(axes)
    for transform in (*dataset.get("coordinateTransformations", ()), *scale.get("coordinateTransformations", ())):
        if transform["type"] == "scale":
            factors = [float(one) * float(other) for one, other in zip(factors, transform["scale"], strict=True)]
    units = {axis["name"]: axis.get("unit") for axis in scale.get("axes") or () if isinstance(axis, Mapping)}
    across, down = (microns_in(factors[axes.index(axis)], str(units.get(axis))) for axis in "xy")
    return across, down
