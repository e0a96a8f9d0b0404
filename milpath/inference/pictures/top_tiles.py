"""The tiles of a bag with the highest and the lowest attention."""

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from milpath.data.store.bag_store import BagStore
from milpath.drawing.montage import TileRow, draw_extremes
from milpath.drawing.picture_frame import attention_limits
from milpath.drawing.tile_numbers import tile_number
from milpath.inference.pictures.bag_pictures import BagPictures
from milpath.inference.pictures.overlays import positions_of
from milpath.inference.pictures.tile_pixels import tile_pixels
from milpath.inference.predict_bags import BagPrediction

NUM_SHOWN = 4


def draw_top_tiles(pictures: BagPictures, bag: BagPrediction, num_shown: int = NUM_SHOWN) -> Image.Image:
    """Draw two rows of tiles: those with the highest and the lowest attention of a bag, also of several slides.

    Args:
        pictures: The store of the bag, and where its tiles are.
        bag: The prediction.
        num_shown: Maximum number of tiles per row; no tile is in both rows.

    Raises:
        ValueError: If these are features whose slide is not at hand.
    """
    store = pictures.bags
    pixels = tile_pixels(store, bag.position, pictures.slides)
    if pixels is None:
        raise ValueError(f"the slide of {bag.bag_id!r} is not at hand; its features have no pixels")
    # White padding tiles have no position and are left out.
    real = np.concatenate(
        [part.rows.start + placed_tiles(store.slide_store, part.position) for part in store.slides_of(bag.position)]
    )
    ranked = real[np.argsort(-bag.attention[real], kind="stable")]
    top, bottom = ranked[:num_shown], ranked[num_shown:][-num_shown:]
    rows = []
    for title, chosen in (("highest attention", top), ("lowest attention", bottom)):
        if len(chosen):
            weights = bag.attention[chosen]
            captions = [f"{tile_number(tile)}  {bag.attention[tile]:.3f}" for tile in chosen.tolist()]
            rows.append(TileRow(title, pixels[chosen], weights, captions))
    # Use the same colour scale as the other pictures of the bag.
    return draw_extremes(rows, title=bag.bag_id, limits=attention_limits(bag.attention))


def placed_tiles(store: BagStore, position: int) -> NDArray[np.intp]:
    """Return the tiles of a slide that have a position; all if none has."""
    positions = positions_of(store, store.tile_slice(position))
    return np.arange(store.num_tiles[position]) if positions is None else np.flatnonzero(~np.isnan(positions[0]))
