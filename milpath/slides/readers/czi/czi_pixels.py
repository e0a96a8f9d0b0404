"""Decoding the pixels of a piece of a CZI with bounded memory."""

from typing import Any

import imagecodecs
import numpy as np
from numpy.typing import NDArray

from milpath.slides.readers.czi.czi_file import CziFile, CziPiece
from milpath.slides.readers.czi.jpeg_xr import decode_jpeg_xr
from milpath.slides.readers.slide_formats import CONVERT

# Number of a kind of pixels to its samples and type. Colours are stored as blue, green, red.
_PIXELS = {0: (1, "u1"), 1: (1, "<u2"), 3: (3, "u1"), 4: (3, "<u2")}
_OTHER_PIXELS = {2: "32-bit floats", 8: "floats in colour", 9: "colours with transparency", 10: "complex numbers"}
_RAW, _JPEG_XR, _ZSTD, _ZSTD_WITH_HEADER = 0, 4, 5, 6
_OTHER_CODECS = {1: "JPEG", 2: "LZW"}
_MAX_BYTES = 1 << 28
_SPARE = 1 << 16
_LOW_HIGH = 1
_ERRORS = (ValueError, TypeError, IndexError, OverflowError, RuntimeError)


def require_readable(piece: CziPiece) -> None:
    """Refuse a piece whose pixels or codec are not read.

    Raises:
        ValueError: With what they are.
    """
    if piece.pixel_type not in _PIXELS:
        kind = _OTHER_PIXELS.get(piece.pixel_type, f"kind {piece.pixel_type}")
        raise ValueError(f"its pixels are {kind}; expected grey or red, green and blue of 8 or 16 bits; {CONVERT}")
    if piece.compression not in (_RAW, _JPEG_XR, _ZSTD, _ZSTD_WITH_HEADER):
        codec = _OTHER_CODECS.get(piece.compression, f"codec {piece.compression}")
        raise ValueError(f"its pixels are compressed with {codec}, which is not read in a CZI; {CONVERT}")
    if bytes_of(piece) > _MAX_BYTES:
        raise ValueError(f"a piece of {piece.stored.width} x {piece.stored.height} px is too large; {CONVERT}")


def bytes_of(piece: CziPiece) -> int:
    """Return the bytes of a decoded piece."""
    samples, kind = _PIXELS[piece.pixel_type]
    return piece.stored.width * piece.stored.height * samples * np.dtype(kind).itemsize


def decode_piece(file: CziFile, piece: CziPiece) -> NDArray[np.unsignedinteger[Any]] | None:
    """Return the pixels of a piece, uint8 or uint16 `(height, width, samples)` in the order red, green, blue.

    Returns:
        `None` for a piece without stored bytes.

    Raises:
        ValueError: If they are damaged.
    """
    size, (samples, kind) = bytes_of(piece), _PIXELS[piece.pixel_type]
    data = file.data_of(piece, 2 * size + _SPARE)
    if not data:
        return None
    shape = (piece.stored.height, piece.stored.width, samples)
    try:
        if piece.compression == _JPEG_XR:
            return decode_jpeg_xr(data, shape, np.dtype(kind))
        content = data if piece.compression == _RAW else _unpacked(data, size, piece.compression, kind)
    except _ERRORS as error:
        reason = " ".join(str(error).split())[:100]
        raise ValueError(f"the piece at {piece.position:,} bytes is damaged ({reason})") from None
    if len(content) < size:
        raise ValueError(f"the piece at {piece.position:,} bytes has {len(content):,} bytes instead of {size:,}")
    return np.frombuffer(content, kind, count=size // np.dtype(kind).itemsize).reshape(shape)[:, :, ::-1]


def _unpacked(data: bytes, size: int, compression: int, kind: str) -> bytes:
    """Return what Zstandard compressed, at most `size` bytes."""
    apart = False
    if compression == _ZSTD_WITH_HEADER:
        # Its length, and whether the low and the high bytes of all samples are stored apart.
        length = data[0]
        if length not in (1, 3) or (length == 3 and data[1] != _LOW_HIGH):
            raise ValueError("its header is unknown")
        apart, data = length == 3 and bool(data[2] & 1), data[length:]
    unpack: Any = imagecodecs.zstd_decode
    out = np.empty(size, np.uint8)
    content = np.asarray(unpack(data, out=out)).view(np.uint8)
    if apart and np.dtype(kind).itemsize == 2:
        content = content.reshape(2, -1).T.ravel()
    return content.tobytes()
