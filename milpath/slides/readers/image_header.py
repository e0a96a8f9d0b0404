"""Size of a PNG or JPEG image from its header, before a decoder allocates memory for it."""

from typing import NamedTuple

PNG_SIGNATURE = b"\x89PNG\r\n\x1a\n"

_FRAME_MARKERS = frozenset(range(0xC0, 0xD0)) - {0xC4, 0xC8, 0xCC}
_WITHOUT_LENGTH = frozenset({0x01, *range(0xD0, 0xD9)})


class PNGHeader(NamedTuple):
    """The header of a PNG file.

    Attributes:
        width: Width in pixels.
        height: Height in pixels.
        depth: Bits per sample.
        colour: 0 grey, 2 RGB, 3 palette, 4 grey with alpha, 6 RGB with alpha.
    """

    width: int
    height: int
    depth: int
    colour: int


def png_header(data: bytes) -> PNGHeader | None:
    """Return the header of a PNG file, `None` if it is not a PNG or its header is truncated.

    Args:
        data: The file, or at least its first 26 bytes.

    Example:
        >>> png_header(PNG_SIGNATURE + bytes.fromhex("0000000d 49484452 00000020 00000010 08 02"))
        PNGHeader(width=32, height=16, depth=8, colour=2)
    """
    if not data.startswith(PNG_SIGNATURE) or len(data) < 26:
        return None
    return PNGHeader(int.from_bytes(data[16:20]), int.from_bytes(data[20:24]), data[24], data[25])


def png_text(data: bytes, keyword: str) -> str:
    """Return a text before the pixels of a PNG file; empty without one.

    Args:
        data: The file.
        keyword: Its keyword.

    Example:
        >>> png_text(PNG_SIGNATURE + bytes.fromhex("00000005 74455874 6279006d65"), "by")
        'me'
    """
    position, start = len(PNG_SIGNATURE), keyword.encode("latin-1") + b"\0"
    if not data.startswith(PNG_SIGNATURE):
        return ""
    while position + 8 <= len(data):
        end = position + 8 + int.from_bytes(data[position : position + 4])
        kind, content = data[position + 4 : position + 8], data[position + 8 : end]
        if kind == b"IDAT":
            break
        if kind == b"tEXt" and content.startswith(start):
            return content[len(start) :].decode("latin-1")
        position = end + 4
    return ""


def jpeg_size(data: bytes) -> tuple[int, int] | None:
    """Return the width and height of a JPEG stream, `None` if it has no valid frame header.

    Example:
        >>> jpeg_size(bytes.fromhex("ffd8 ffc0 0011 08 0010 0020 03"))
        (32, 16)
    """
    if data[:2] != b"\xff\xd8":
        return None
    position = 2
    while position + 9 <= len(data):
        if data[position] != 0xFF:
            return None
        marker = data[position + 1]
        if marker == 0xFF:  # fill byte
            position += 1
        elif marker in _FRAME_MARKERS:
            return int.from_bytes(data[position + 7 : position + 9]), int.from_bytes(data[position + 5 : position + 7])
        elif marker in _WITHOUT_LENGTH:
            position += 2
        else:
            position += 2 + int.from_bytes(data[position + 2 : position + 4])
    return None
