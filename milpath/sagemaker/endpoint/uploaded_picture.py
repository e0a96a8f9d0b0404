"""Pictures of strangers: few formats, a bound on pixels before anything is unpacked, one line for whatever is wrong."""

import struct
import zlib
from io import BytesIO
from typing import Any

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from milpath.sagemaker.endpoint.bad_request import BadRequestError

TILE_FORMATS = ("PNG",)
SLIDE_FORMATS = ("PNG", "JPEG", "TIFF")
# What Pillow's decoders raise for broken files: they are old and many, and each has its own way of giving up.
_DECODER_ERRORS = (
    OSError,
    SyntaxError,
    ValueError,
    TypeError,
    LookupError,
    EOFError,
    ArithmeticError,
    AttributeError,
    RuntimeError,
    MemoryError,
    struct.error,
    zlib.error,
    Warning,
)
# Pillow has a bound of its own, which it looks at while it reads the header.
_BOMBS = (Image.DecompressionBombError, Image.DecompressionBombWarning)


def read_picture(data: bytes, name: str, formats: tuple[str, ...], max_pixels: int, channels: int = 3) -> NDArray[Any]:
    """Return a picture as an array.

    Args:
        data: The whole file.
        name: What to call it in a message.
        formats: Formats of Pillow that are read; no other decoder is touched.
        max_pixels: Bound on width times height, which the file's header tells.
        channels: 3 for RGB, 1 for grey.

    Returns:
        uint8 `(height, width, channels)`; an alpha channel is laid on white, as a slide's background is.

    Raises:
        BadRequestError: If it is none of the formats, broken, or larger than allowed.
    """
    if not data:
        raise BadRequestError(f"{name} is empty")
    try:
        with Image.open(BytesIO(data), formats=formats) as picture:
            if picture.width * picture.height > max_pixels:
                raise BadRequestError(
                    f"{name} has {picture.width} x {picture.height} px; at most {max_pixels} px are read", 413
                )
            return _as_array(picture, channels)
    except BadRequestError:
        raise
    except _BOMBS:
        raise BadRequestError(f"{name} has more than {max_pixels} px", 413) from None
    except _DECODER_ERRORS:
        raise BadRequestError(f"{name} is no whole {' or '.join(formats)} picture") from None


def _as_array(picture: Image.Image, channels: int) -> NDArray[Any]:
    """Return the pixels, 8 bits a channel."""
    if picture.mode in ("I", "F", "I;16", "I;16B", "I;16L"):
        raise BadRequestError(f"a picture has the mode {picture.mode}; send 8 bits a channel")
    if "A" in picture.getbands() or "transparency" in picture.info:
        ground = Image.new("RGBA", picture.size, "white")
        ground.alpha_composite(picture.convert("RGBA"))
        picture = ground
    pixels = np.asarray(picture.convert("RGB" if channels == 3 else "L"))
    return pixels.reshape(*pixels.shape[:2], channels)
