"""One overlay per class, of networks with attention or contributions per class."""

from collections.abc import Mapping

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from milpath.data.store.bag_store import BagStore, TileRows
from milpath.drawing.picture_frame import attention_limits
from milpath.inference.pictures.overlays import SlidePicture, draw_bag_overlay
from milpath.models.tile_maps import is_signed, split_map_name

Maps = Mapping[str, NDArray[np.floating]]


def draw_class_overlays(
    store: BagStore,
    chosen: TileRows | int,
    maps: Maps,
    title: str = "",
    picture: SlidePicture | None = None,
    *,
    alpha: float = 0.6,
    colour_map: str = "viridis",
    limits: Mapping[str, tuple[float, float]] | None = None,
) -> dict[str, Image.Image]:
    """Draw each map of a bag on its tissue; the maps of a quantity share one scale, so that classes can be compared.

    Args:
        store: Store of the tiles.
        chosen: Position of the bag, or its tiles (`store.tile_slice`).
        maps: Name (`attention_<class>`, `contribution_<class>`) to `(tiles,)` values.
        title: Name of the bag; the class is added to it.
        picture: Thumbnail of the slide; `None` assembles the tiles at their positions.
        alpha: Opacity of the colours at the high end, in [0, 1].
        colour_map: Colours of attention; contributions are blue below 0 and red above.
        limits: Ends of the scale of each map; `None` uses `map_limits`.

    Returns:
        Name of the map to its picture; empty if the positions of the tiles are unknown.
    """
    limits = limits or map_limits(maps)
    pictures = {}
    for name, values in maps.items():
        overlay = draw_bag_overlay(
            store, chosen, values, f"{title} · {map_in_words(name)}", picture,
            alpha=alpha, colour_map=colour_map, limits=limits[name], signed=is_signed(name), beside_truth=False,
        )  # fmt: skip
        if overlay is not None:
            pictures[name] = overlay
    return pictures


def map_in_words(name: str) -> str:
    """Return the name of a map for a title.

    Example:
        >>> map_in_words("attention_tumour"), map_in_words("contribution_above grade 1")
        ('attention for tumour', 'contribution to above grade 1')
    """
    quantity, of_class = split_map_name(name)
    return f"{quantity} {'to' if is_signed(name) else 'for'} {of_class}"


def map_limits(maps: Maps) -> dict[str, tuple[float, float]]:
    """Return the ends of the scale of each map, equal for all maps of a quantity.

    Attention goes from 0 to the largest weight of any class, and at least to twice the equal share; contributions go as far
    below 0 as above.

    Example:
        >>> map_limits({"contribution_a": np.array([0.5, -2.0]), "contribution_b": np.array([1.0, 1.0])})
        {'contribution_a': (-2.0, 2.0), 'contribution_b': (-2.0, 2.0)}
    """
    signed = [float(np.abs(values).max()) for name, values in maps.items() if is_signed(name)]
    weights = [attention_limits(values)[1] for name, values in maps.items() if not is_signed(name)]
    largest = max(signed, default=0.0) or 1.0
    return {name: (-largest, largest) if is_signed(name) else (0.0, max(weights)) for name in maps}
