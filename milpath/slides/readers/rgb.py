"""Conversion of any pixel format to 8-bit RGB on white."""

import numpy as np
from numpy.typing import NDArray
from PIL import Image

WHITE = 255


def to_rgb(
    pixels: NDArray[np.generic],
    *,
    alpha: str | None = None,
    inverted: bool = False,
    palette: NDArray[np.uint16] | None = None,
) -> NDArray[np.uint8]:
    """Return samples as 8-bit RGB.

    Args:
        pixels: `(height, width, samples)` uint8 or uint16 with 1 (grey or palette index), 2 (grey, alpha), 3 (RGB) or 4
            (RGB, alpha) samples. 16 bits are scaled to 8: 65535 becomes 255.
        alpha: Meaning of the last of 2 or 4 samples: "straight", "premultiplied", or `None` to ignore it.
        inverted: Whether 0 is white in greyscale data.
        palette: `(3, colours)` uint16 table, if the samples are palette indices.

    Returns:
        uint8 `(height, width, 3)`; transparent pixels are white.

    Raises:
        ValueError: If the samples are of another kind.

    Example:
        >>> to_rgb(np.array([[[0, 255]]], np.uint16)).shape
        (1, 1, 3)
        >>> to_rgb(np.array([[[10, 20, 30, 0]]], np.uint8), alpha="straight").tolist()
        [[[255, 255, 255]]]
    """
    samples = pixels.shape[2]
    if not 1 <= samples <= 4:
        raise ValueError(f"{samples} samples per pixel; expected grey, RGB or RGBA")
    if palette is not None:
        return np.asarray((palette.T >> 8).astype(np.uint8)[pixels[:, :, 0]])
    values = _to_eight_bits(pixels)
    if inverted:
        values = WHITE - values
    if samples == 3:
        return np.ascontiguousarray(values)
    colour = values[:, :, : 1 if samples < 3 else 3]
    if samples in (2, 4) and alpha is not None:
        colour = _on_white(colour, values[:, :, -1:], alpha == "premultiplied")
    return np.ascontiguousarray(np.broadcast_to(colour, (*colour.shape[:2], 3)))


def image_to_rgb(image: Image.Image) -> NDArray[np.uint8]:
    """Return a Pillow image as RGB on white.

    Raises:
        ValueError: If its pixels are not of 8 or 16 bits (32 bits, floats).
    """
    if image.mode in ("I", "F"):
        raise ValueError(f"pixels of kind {image.mode!r} (32 bits); expected grey, RGB or RGBA of 8 or 16 bits")
    if image.mode.startswith("I;16"):
        return to_rgb(np.asarray(image)[:, :, None])
    if image.mode in ("RGBA", "LA", "PA", "La", "RGBa") or "transparency" in image.info:
        return to_rgb(np.asarray(image.convert("RGBA")), alpha="straight")
    return np.asarray(image.convert("RGB"))


def _to_eight_bits(pixels: NDArray[np.generic]) -> NDArray[np.uint8]:
    if pixels.dtype == np.uint8:
        return pixels.view(np.uint8)
    if pixels.dtype == np.uint16:
        return ((pixels.astype(np.uint32) + 128) // 257).astype(np.uint8)
    raise ValueError(f"pixels of kind {pixels.dtype}; expected unsigned 8 or 16 bits")


def _on_white(colour: NDArray[np.uint8], alpha: NDArray[np.uint8], premultiplied: bool) -> NDArray[np.uint8]:
    """Composite colours over white."""
    part = alpha.astype(np.uint32)
    light = colour.astype(np.uint32) * (WHITE if premultiplied else part)
    return np.asarray(np.minimum((light + WHITE * (WHITE - part) + 127) // WHITE, WHITE), np.uint8)
