"""The tiles of one bag that a network cared for most and least."""

import numpy as np
from PIL import Image

from milpath.data.store.bag_store import BagStore
from milpath.drawing.montage import TileRow, draw_extremes
from milpath.drawing.picture_frame import attention_limits
from milpath.inference.overlays import positions_of
from milpath.inference.predict_bags import BagPrediction

NUM_SHOWN = 4


def draw_top_tiles(store: BagStore, bag: BagPrediction, num_shown: int = NUM_SHOWN) -> Image.Image:
    """Draw two rows of tiles: the most and the least attention of a bag.

    Args:
        store: Where the tiles are.
        bag: What was predicted.
        num_shown: Tiles of a row at most; no tile stands in both rows.
    """
    where = store.tile_slice(bag.position)
    positions = positions_of(store, where)
    # White tiles that fill a bag up lie nowhere; that they are ignored is no news.
    real = np.arange(len(bag.attention)) if positions is None else np.flatnonzero(~np.isnan(positions[0]))
    ranked = real[np.argsort(-bag.attention[real], kind="stable")]
    top, bottom = ranked[:num_shown], ranked[num_shown:][-num_shown:]
    rows = []
    for title, chosen in (("most attention", top), ("least attention", bottom)):
        if len(chosen):
            weights = bag.attention[chosen]
            tiles = np.stack([store.tiles[where.start + place] for place in chosen])
            rows.append(TileRow(title, tiles, weights, [f"{weight:.3f}" for weight in weights]))
    # The colours mean what they mean in the other pictures of the bag.
    return draw_extremes(rows, title=bag.bag_id, limits=attention_limits(bag.attention))
