"""Classes of tiles by the rank of their attention, the same in every annotation file."""

import math
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from milpath.drawing.picture_frame import colour_table


class AttentionClass(NamedTuple):
    """A class of tiles by the rank of their attention.

    Attributes:
        name: Its name in QuPath and ASAP; without a colon, which QuPath reads as a class within a class.
        share: Share of the tiles of the bag, from the highest attention, that are in this class or one before it.
        shade: Its place on the colour map, 255 for the colour of the highest attention.
    """

    name: str
    share: float
    shade: int


CLASSES = (
    AttentionClass("Attention top 10 %", 0.1, 255),
    AttentionClass("Attention 10-50 %", 0.5, 128),
    AttentionClass("Attention lower half", 1.0, 0),
)


def attention_ranks(weights: NDArray[np.floating]) -> NDArray[np.int64]:
    """Return the rank of each tile, 1 for the highest attention; equal weights share the last of their ranks.

    Equal weights on all tiles put every tile into the lowest class instead of an arbitrary tenth into the highest.

    Args:
        weights: `(tiles,)` attention of a whole bag.

    Example:
        >>> attention_ranks(np.array([0.1, 0.4, 0.1, 0.4])).tolist()
        [4, 2, 4, 2]
    """
    return len(weights) - np.searchsorted(np.sort(weights), weights, side="left")


def attention_classes(ranks: NDArray[np.int64], num_tiles: int) -> NDArray[np.int64]:
    """Return the position in `CLASSES` of the class of each tile.

    Args:
        ranks: Result of `attention_ranks`, or a part of it.
        num_tiles: Number of tiles of the bag; a class has at least room for one.

    Example:
        >>> attention_classes(np.array([1, 2, 4, 5, 6]), 10).tolist()
        [0, 1, 1, 1, 2]
    """
    bounds = [math.ceil(of_class.share * num_tiles - 1e-9) for of_class in CLASSES]
    return np.searchsorted(bounds, ranks, side="left")


def class_colour(of_class: AttentionClass, colour_map: str = "viridis") -> tuple[int, int, int]:
    """Return the red, green and blue of a class, in [0, 255]."""
    red, green, blue = (int(part) for part in colour_table(colour_map)[of_class.shade])
    return red, green, blue
