"""Mean colour of a slide, which depends on stain and scanner: optical densities of what is not glass."""

import numpy as np
from numpy.typing import NDArray

from milpath.data.store.bag_store import BagStore
from milpath.records.stain_sample import sampled_lines, sampled_tiles

COLOURS = ("red density", "green density", "blue density")
# Of a bag.
_TILES = 8
# Brightness above which a pixel is glass.
_GLASS = 225


def mean_densities(pixels: NDArray[np.uint8]) -> NDArray[np.float64]:
    """Return the mean optical density of red, green and blue, -log10 of the brightness, of all pixels but glass.

    Args:
        pixels: uint8 `(..., 3)`.

    Returns:
        `(3,)`; not a number if all is glass.

    Example:
        >>> mean_densities(np.full((4, 4, 3), (25, 255, 255), np.uint8)).round(2).tolist()
        [1.01, 0.0, 0.0]
    """
    flat = pixels.reshape(-1, 3)
    tissue = flat[flat.min(axis=1) < _GLASS].astype(np.float64)
    if not len(tissue):
        return np.full(3, np.nan)
    return np.asarray(np.abs(np.log10(np.maximum(tissue, 1) / 255)).mean(axis=0))


def colours_of_bags(store: BagStore, rows: NDArray[np.int64]) -> NDArray[np.float64] | None:
    """Return the mean colours of bags, `(bags, 3)`, from at most eight tiles of each; `None` if tiles are no colours.

    Args:
        store: The tiles.
        rows: Positions of the bags.
    """
    shape = store.tile_shape
    if len(shape) != 3 or shape[2] != 3 or store.tiles.dtype != np.uint8:
        return None
    lines, columns = sampled_lines(shape[0]), sampled_lines(shape[1])
    found = np.empty((len(rows), 3))
    for place, index in enumerate(rows):
        chosen = np.asarray(sampled_tiles(int(store.num_tiles[index]), _TILES), dtype=np.int64)
        tiles = np.empty((len(chosen), *shape), np.uint8)
        store.read_some(int(index), chosen, tiles)
        found[place] = mean_densities(tiles[:, lines][:, :, columns])
    return found
