"""Layers of a page: the attention of tiles as a transparent picture with its colour scale."""

import base64
import io
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from milpath.drawing.heatmap import attention_map, opacity_of
from milpath.drawing.picture_frame import colour_table, colours_of

LONGEST_SIDE = 2048
Values = NDArray[np.floating]


class Layer(NamedTuple):
    """A layer and its scale.

    Attributes:
        title: Name of the quantity.
        image: Data URI of a PNG with transparency.
        low: Text at the low end of the scale.
        high: Text at the high end.
        colours: Colours of the scale from the low end to the high end, as CSS.
        equal_share: Place of the equal share of all tiles on the scale, in percent; `None` if it is not shown.
    """

    title: str
    image: str
    low: str
    high: str
    colours: list[str]
    equal_share: float | None = None


def draw_layer(
    title: str,
    values: Values,
    x0: Values,
    y0: Values,
    size0: float,
    slide_size: tuple[float, float],
    limits: tuple[float, float],
    colour_map: str,
    equal_share: float | None = None,
) -> Layer:
    """Return the values of tiles as a layer over the whole slide.

    Like in an overlay, low values are more transparent than high ones, so that the tissue below them shows.

    Args:
        title: Name of the quantity.
        values: `(tiles,)`.
        x0: `(tiles,)` left edges in pixels of level 0; NaN for tiles without a position.
        y0: `(tiles,)` top edges likewise.
        size0: Side of a tile in the same pixels.
        slide_size: Width and height of the slide in the same pixels.
        limits: Values at the ends of the scale.
        colour_map: A colour map of `milpath.drawing.picture_frame`.
        equal_share: The value of each tile if all were equal, marked on the scale; `None` marks none.
    """
    scale = min(1.0, LONGEST_SIDE / max(slide_size))
    width, height = (max(1, round(side * scale)) for side in slide_size)
    # Positions are rounded to whole pixels of level 0; without one more pixel neighbours may leave a gap.
    drawn = attention_map(values, x0, y0, size0 + 1, scale, (height, width))
    known = ~np.isnan(drawn)
    (low, high), pixels = limits, np.zeros((height, width, 4), np.uint8)
    pixels[known, :3] = colours_of(drawn[known], limits, colour_map)
    pixels[known, 3] = np.round(255 * opacity_of(drawn[known], limits, colour_map))
    mark = None
    if equal_share is not None and low < equal_share < high:
        mark = 100 * (equal_share - low) / (high - low)
    colours = ["#{:02x}{:02x}{:02x}".format(*colour) for colour in colour_table(colour_map)[::15].tolist()]
    return Layer(title, _png(pixels), f"{low:.3g}", f"{high:.3g}", colours, mark)


def data_uri(content: bytes, kind: str) -> str:
    """Return the bytes of a picture as a data URI; `kind` is "png" or "jpeg"."""
    return f"data:image/{kind};base64,{base64.b64encode(content).decode('ascii')}"


def _png(pixels: NDArray[np.uint8]) -> str:
    file = io.BytesIO()
    Image.fromarray(pixels, "RGBA").save(file, "PNG", optimize=False)
    return data_uri(file.getvalue(), "png")
