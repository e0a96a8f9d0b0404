"""Size of a compressed image from its header, before a decoder allocates memory for it."""

from typing import NamedTuple

PNG_SIGNATURE = b"\x89PNG\r\n\x1a\n"

_FRAME_MARKERS = frozenset(range(0xC0, 0xD0)) - {0xC4, 0xC8, 0xCC}
_WITHOUT_LENGTH = frozenset({0x01, *range(0xD0, 0xD9)})
_JPEG_2000_START = b"\xff\x4f\xff\x51"
_JPEG_XL_START = b"\xff\x0a"
# Bits of a side that is not a multiple of 8, and the ratios of width to height that JPEG XL abbreviates.
_JPEG_XL_BITS = (9, 13, 18, 30)
_JPEG_XL_RATIOS = ((1, 1), (12, 10), (4, 3), (3, 2), (16, 9), (5, 4), (2, 1))


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


def jpeg_2000_size(data: bytes) -> tuple[int, int] | None:
    """Return the width and height of the reference grid of a JPEG 2000 stream or file, `None` if it has no header.

    Example:
        >>> jpeg_2000_size(bytes.fromhex("ff4f ff51 0029 0000 00000020 00000010"))
        (32, 16)
    """
    start = 0 if data.startswith(_JPEG_2000_START) else _content_of_box(data, b"jp2c")
    if start is None or data[start : start + 4] != _JPEG_2000_START or len(data) < start + 16:
        return None
    # The whole grid, of which the image may leave out a margin: memory is bounded by it.
    return int.from_bytes(data[start + 8 : start + 12]), int.from_bytes(data[start + 12 : start + 16])


def webp_size(data: bytes) -> tuple[int, int] | None:
    """Return the width and height of a WebP image, `None` if it has no valid header.

    Example:
        >>> webp_size(b"RIFF    WEBPVP8L    " + bytes.fromhex("2f 1f c0 03 00") + bytes(5))
        (32, 16)
    """
    if data[:4] != b"RIFF" or data[8:12] != b"WEBP" or len(data) < 30:
        return None
    kind = data[12:16]
    if kind == b"VP8X":
        return 1 + int.from_bytes(data[24:27], "little"), 1 + int.from_bytes(data[27:30], "little")
    if kind == b"VP8L":
        bits = int.from_bytes(data[21:25], "little")
        return 1 + (bits & 0x3FFF), 1 + (bits >> 14 & 0x3FFF)
    if kind == b"VP8 ":
        width, height = (int.from_bytes(data[place : place + 2], "little") & 0x3FFF for place in (26, 28))
        return width, height
    return None


def jpeg_xl_size(data: bytes) -> tuple[int, int] | None:
    """Return the width and height of a JPEG XL stream, or of a file with the stream in one box; `None` otherwise.

    References:
        ISO/IEC 18181-1: JPEG XL core coding system. 2022, size header.

    Example:
        >>> jpeg_xl_size(bytes.fromhex("ff0a 43 00"))
        (16, 16)
    """
    start = 0 if data.startswith(_JPEG_XL_START) else _content_of_box(data, b"jxlc")
    if start is None or data[start : start + 2] != _JPEG_XL_START:
        return None
    bits, place = int.from_bytes(data[start + 2 : start + 14], "little"), 0

    def take(count: int) -> int:
        nonlocal place
        place += count
        return bits >> (place - count) & ((1 << count) - 1)

    small = take(1)

    def side() -> int:
        return 8 * (1 + take(5)) if small else 1 + take(_JPEG_XL_BITS[take(2)])

    height = side()
    ratio = take(3)
    if ratio == 0:
        return side(), height
    across, down = _JPEG_XL_RATIOS[ratio - 1]
    return height * across // down, height


def _content_of_box(data: bytes, kind: bytes) -> int | None:
    """Return where the content of the first box of a kind begins in a file of boxes, `None` without one."""
    place = 0
    while place + 8 <= len(data):
        length, name = int.from_bytes(data[place : place + 4]), data[place + 4 : place + 8]
        # 1: the length follows in 8 bytes; 0: the box is the rest of the file.
        long = length == 1
        if name == kind:
            return place + (16 if long else 8)
        length = int.from_bytes(data[place + 8 : place + 16]) if long else length
        if length < 8:
            return None
        place += length
    return None
