"""Numbers of tiles in pictures, as tables have them: position in the bag, counted from 0."""

from collections.abc import Mapping

import numpy as np
from numpy.typing import NDArray
from PIL import Image, ImageDraw

from milpath.drawing.picture_frame import INK, font

NUM_NUMBERED = 5
EXPLANATION = "# number of the tile in its bag, from 0"
_TEXT = 12


def tile_number(tile: int) -> str:
    """Return the number of a tile as pictures and reports show it.

    Args:
        tile: Position in the bag, from 0, as in the lists of `predictions.csv` and in `attention.csv`.

    Example:
        >>> tile_number(7)
        '#7'
    """
    return f"#{tile}"


def numbers_of_top_tiles(weights: NDArray[np.floating], count: int = NUM_NUMBERED) -> dict[int, str]:
    """Return the numbers of the tiles with the highest attention, by their position.

    Args:
        weights: `(tiles,)` attention of a bag.
        count: Number of tiles.
    """
    return {int(tile): tile_number(int(tile)) for tile in np.argsort(-weights, kind="stable")[:count]}


def write_numbers(
    picture: NDArray[np.uint8],
    numbers: Mapping[int, str],
    x: NDArray[np.floating],
    y: NDArray[np.floating],
    scale: float,
) -> NDArray[np.uint8]:
    """Return a picture with numbers at the upper left corners of tiles, in ink on white.

    Args:
        picture: uint8 `(height, width, 3)`.
        numbers: Position of a tile to its number; a tile without a position in the slide is left out.
        x: `(tiles,)` left edges.
        y: `(tiles,)` top edges.
        scale: Pixels of the picture per pixel of x and y.
    """
    canvas = Image.fromarray(picture)
    draw, face = ImageDraw.Draw(canvas), font(_TEXT, bold=True)
    for tile, words in numbers.items():
        if np.isnan(x[tile]) or np.isnan(y[tile]):
            continue
        width, height = int(face.getlength(words)) + 4, _TEXT + 3
        # Within the picture, for a tile at its edge too.
        left = int(np.clip(round(float(x[tile]) * scale), 0, max(canvas.width - width, 0)))
        top = int(np.clip(round(float(y[tile]) * scale), 0, max(canvas.height - height, 0)))
        draw.rectangle((left, top, left + width, top + height), fill="white")
        draw.text((left + 2, top), words, INK, face)
    return np.asarray(canvas)
