"""Decoding JPEG XR after a check of its headers, beyond which the library reads memory unchecked."""

import struct
from typing import Any

import imagecodecs
import numpy as np
from numpy.typing import NDArray

_ENTRY = struct.Struct("<HHII")
_WIDTH, _HEIGHT, _OFFSET, _ALPHA_OFFSET = 0xBC80, 0xBC81, 0xBCC0, 0xBCC2
_MAX_TAGS = 64
_BLOCK, _MARGINS = 16, 3
_START = b"WMPHOTO\0"
_GREY, _RGB = 0, 7
# Red, green and blue are stored as brightness and two differences of colour, which may have fewer pixels.
_INSIDE = {_GREY: (0,), _RGB: (1, 2, 3)}
_DEPTHS = {1: 1, 2: 2}


def decode_jpeg_xr(
    data: bytes, shape: tuple[int, int, int], dtype: "np.dtype[Any]"
) -> NDArray[np.unsignedinteger[Any]]:
    """Return a JPEG XR image in the order red, green, blue, or grey.

    Args:
        data: The file.
        shape: Height, width and samples that it must have.
        dtype: Type of its samples, of 8 or 16 bits.

    Raises:
        ValueError: If its headers are damaged or state something else.

    References:
        ITU-T T.832: JPEG XR image coding system. 2019, sections 8.3 and 8.4, and annex A.
    """
    require_jpeg_xr_header(data, shape, dtype.itemsize)
    out = np.empty(shape if shape[2] > 1 else shape[:2], dtype)
    pixels = np.asarray(imagecodecs.jpegxr_decode(data, out=out))
    if pixels.size != out.size or pixels.dtype != dtype:
        raise ValueError(f"its image has {pixels.shape} samples of {pixels.dtype}")
    return pixels.reshape(shape)


def require_jpeg_xr_header(data: bytes, shape: tuple[int, int, int], num_bytes: int) -> None:
    """Refuse an image whose headers are not those of the expected image.

    Args:
        data: The file.
        shape: Height, width and samples that it must have.
        num_bytes: Bytes of a sample.

    Raises:
        ValueError: If they are not.
    """
    colour = _RGB if shape[2] == 3 else _GREY
    try:
        tags = _tags(data)
        start = tags[_OFFSET]
        flags, form, colours = data[start + 9 : start + 12]
        short, alpha = form & 0x80, form & 0x01
        width, height = (1 + side for side in struct.unpack_from(">HH" if short else ">II", data, start + 12))
        place = start + (16 if short else 20)
        if flags & 0x80:
            place = _after_tiles(data, place, width, height, 1 if short else 2)
        if form & 0x20:
            place += _MARGINS
        inside = data[place] >> 5
    except (struct.error, KeyError, IndexError, ValueError):
        raise ValueError("its JPEG XR header is damaged") from None
    if (
        data[start : start + 8] != _START
        or (height, width) != shape[:2]
        or (tags.get(_HEIGHT), tags.get(_WIDTH)) != shape[:2]
        or (colours >> 4, _DEPTHS.get(colours & 15)) != (colour, num_bytes)
        or inside not in _INSIDE[colour]
        or alpha
        or _ALPHA_OFFSET in tags
    ):
        raise ValueError(f"its JPEG XR header is damaged, or not that of {shape[1]} x {shape[0]} px")


def _after_tiles(data: bytes, place: int, width: int, height: int, length: int) -> int:
    """Return where the list of the tiles ends that are smaller parts of the image, in blocks of 16 x 16 px.

    Raises:
        ValueError: If they do not fit into the image.
    """
    counts = int.from_bytes(data[place : place + 3], "big")
    place += 3
    for count, side in ((counts >> 12, width), (counts & 0xFFF, height)):
        # The last tile is what remains.
        sides = [int.from_bytes(data[place + i * length : place + (i + 1) * length], "big") for i in range(count)]
        if 0 in sides or sum(sides) >= -(-side // _BLOCK):
            raise ValueError("its tiles do not fit")
        place += count * length
    return place


def _tags(data: bytes) -> dict[int, int]:
    """Return the values of the container's tags, which resembles TIFF."""
    magic, place = struct.unpack_from("<4sI", data)
    if magic[:3] != b"II\xbc":
        raise ValueError("it is not JPEG XR")
    (count,) = struct.unpack_from("<H", data, place)
    entries = (_ENTRY.unpack_from(data, place + 2 + _ENTRY.size * number) for number in range(min(count, _MAX_TAGS)))
    return {tag: value for tag, _, _, value in entries}
