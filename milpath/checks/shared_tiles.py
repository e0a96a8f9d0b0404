"""Bags with the same tiles: compared by a few bytes of each bag, or by all of them."""

from collections import Counter, defaultdict
from collections.abc import Sequence
from hashlib import blake2b
from itertools import combinations
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from milpath.data.store.bag_store import BagStore

# Of a bag: as many tiles, and bytes in the middle of each.
_TILES, _BYTES = 4, 256
# A tile that more bags have is background, which says nothing of two of them.
MOST_BAGS = 20


class SharedTiles(NamedTuple):
    """Tiles that two bags share.

    Attributes:
        first: Position of a bag among those that were compared.
        second: Position of the other.
        num_tiles: Different tiles that both have.
        share: The same, of the different tiles of the bag that has fewer.
    """

    first: int
    second: int
    num_tiles: int
    share: float


def equal_bags(store: BagStore, rows: NDArray[np.int64]) -> list[list[int]]:
    """Return the groups of bags that have the same tiles in the same order, byte for byte.

    Bags are compared completely only if a few bytes of each are equal, so that of a store with millions of tiles only a few
    pages are read.

    Args:
        store: The tiles.
        rows: Positions of the bags in the store.

    Returns:
        Positions in `rows`, of two bags or more each.
    """
    return equal_bags_of_stores([(store, int(index)) for index in rows])


def equal_bags_of_stores(bags: Sequence[tuple[BagStore, int]]) -> list[list[int]]:
    """Return the groups of bags of one store or several that have the same tiles, as `equal_bags`.

    Args:
        bags: Store and position of each bag; the tiles of all stores have one shape and type.

    Returns:
        Positions in `bags`, of two bags or more each.
    """
    flat = {id(store): store.tiles.reshape(len(store.tiles), -1).view(np.uint8) for store, _ in bags}
    alike: dict[tuple[int, bytes], list[int]] = defaultdict(list)
    for place, (store, index) in enumerate(bags):
        values, own = flat[id(store)], store.rows_of(index)
        middle = max(0, (values.shape[1] - _BYTES) // 2)
        chosen = own[np.linspace(0, len(own) - 1, min(_TILES, len(own))).astype(np.int64)] if len(own) else own
        content = b"".join(values[row, middle : middle + _BYTES].tobytes() for row in chosen)
        alike[len(own), content].append(place)
    found: list[list[int]] = []
    for (num_tiles, _), places in alike.items():
        if len(places) < 2 or not num_tiles:
            continue
        whole: dict[bytes, list[int]] = defaultdict(list)
        for place in places:
            store, index = bags[place]
            whole[_digest(store.read(index))].append(place)
        found += [same for same in whole.values() if len(same) > 1]
    return sorted(found)


def shared_tiles(store: BagStore, rows: NDArray[np.int64]) -> tuple[list[SharedTiles], int]:
    """Return the pairs of bags that share tiles, byte for byte; all tiles are read.

    Args:
        store: The tiles.
        rows: Positions of the bags in the store.

    Returns:
        The pairs with the largest share first, and the number of tiles that were left out: of one colour or value, as
        padding is, or in more than 20 bags.
    """
    bags_of: dict[bytes, set[int]] = defaultdict(set)
    own_tiles: list[set[bytes]] = []
    blank = 0
    for place, index in enumerate(rows):
        tiles = store.read(int(index))
        digests: set[bytes] = set()
        for tile in tiles:
            if _is_blank(tile):
                blank += 1
                continue
            digests.add(_digest(tile))
        own_tiles.append(digests)
        for digest in digests:
            bags_of[digest].add(place)
    pairs: Counter[tuple[int, int]] = Counter()
    common: set[bytes] = set()
    for digest, places in bags_of.items():
        if len(places) > MOST_BAGS:
            common.add(digest)
        elif len(places) > 1:
            pairs.update(combinations(sorted(places), 2))
    sizes = [max(1, len(digests - common)) for digests in own_tiles] if pairs else []
    found = [
        SharedTiles(first, second, count, count / min(sizes[first], sizes[second]))
        for (first, second), count in pairs.items()
    ]
    return sorted(found, key=lambda pair: (-pair.share, pair.first, pair.second)), blank + len(common)


def pairs_of(groups: Sequence[Sequence[int]]) -> list[tuple[int, int]]:
    """Return each item of a group with its first one: a chain that holds the group together.

    Example:
        >>> pairs_of([[2, 5, 7]])
        [(2, 5), (2, 7)]
    """
    return [(group[0], other) for group in groups for other in group[1:]]


def _is_blank(tile: NDArray[np.generic]) -> bool:
    """Return whether all pixels, or all features, of a tile are the same."""
    rows = tile.reshape(-1, tile.shape[-1]) if tile.ndim == 3 else tile.reshape(-1)
    return bool((rows == rows[0]).all())


def _digest(array: NDArray[np.generic]) -> bytes:
    return blake2b(np.ascontiguousarray(array).tobytes(), digest_size=16).digest()
