"""Target of a stain normalisation, fitted on the tissue of training bags."""

import logging
from collections.abc import Sequence
from typing import Any

import numpy as np
import torch

from milpath.data.store.bag_store import BagStore
from milpath.models.network_input import to_network_input
from milpath.models.stains import sampled_tiles
from milpath.models.stains.stain_normalisation import stain_method
from milpath.models.stains.tissue_pixels import tissue_pixels

_log = logging.getLogger(__name__)
_MOST_BAGS = 512


def fit_stain_target(store: BagStore, indices: Sequence[int] | np.ndarray, method: str) -> dict[str, Any]:
    """Return the target of a stain normalisation: the median over bags of the statistics of their tissue.

    At most 512 bags are read, evenly spaced, and of each at most 256 tiles: the result depends on the bags alone.

    Args:
        store: A store of RGB tiles.
        indices: Bags of the training split.
        method: "macenko" or "reinhard".

    Returns:
        Plain values for `stain_target` of an encoder.

    Raises:
        ValueError: If the store does not hold RGB tiles, or no bag has enough stained tissue.
    """
    chosen = stain_method(method)
    if len(store.tile_shape) != 3 or store.tile_shape[2] != 3:
        raise ValueError(
            f"stain_normalisation={method} needs RGB tiles, and {store.path} holds "
            f"{' x '.join(map(str, store.tile_shape))} values per tile"
        )
    count = min(len(indices), _MOST_BAGS)
    found = []
    for place in range(count):
        bag = store.tile_slice(int(indices[place * len(indices) // count]))
        of_bag = np.arange(bag.start, bag.stop) if isinstance(bag, slice) else bag
        rows = of_bag[np.asarray(sampled_tiles(len(of_bag)))]
        tiles = to_network_input(torch.from_numpy(np.array(store.tiles[rows])))[None]
        statistics, sound = chosen.statistics(*tissue_pixels(tiles, None))
        if bool(sound[0]):
            found.append(statistics[0])
    if not found:
        raise ValueError(
            f"stain_normalisation={method}: none of {count} training bags of {store.path} has enough stained tissue to fit "
            "its target; set stain_normalisation=none, or stain_target_path=FILE"
        )
    target = chosen.target_of(torch.stack(found))
    _log.info("stain_normalisation=%s: target of %d of %d training bags: %s", method, len(found), count, target)
    return target
