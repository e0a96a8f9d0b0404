"""One bag as an endpoint sees it."""

from typing import Any, NamedTuple

from numpy.typing import NDArray


class TileBag(NamedTuple):
    """Tiles, and what the answer should call them.

    Attributes:
        tiles: uint8 or float `(tiles, height, width, channels)`, or float `(tiles, features)`.
        names: Name of each tile, empty where they have none.
        corners: Left and top edge of each tile in pixels of the slide image, empty where they are unknown.
    """

    tiles: NDArray[Any]
    names: tuple[str, ...] = ()
    corners: tuple[tuple[int, int], ...] = ()
