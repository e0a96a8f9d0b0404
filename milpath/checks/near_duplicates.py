"""Pairs of pictures with nearly the same hash, and the groups that they form."""

from collections.abc import Iterable
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from milpath.checks.perceptual_hash import NUM_ORIENTATIONS, Hashes, orientations, steady_bits

# Of 255 bits. Recompressed (JPEG quality 30), halved, turned, mirrored, darker or recoloured GlaS and UCSB images differ
# from their original by at most 32 bits in 99 of 100 images, and no two of these 223 images by fewer than 94.
MAX_DISTANCE = 40
# Of a block of pairs, so that it fits the cache.
_ROWS, _COLUMNS = 256, 4096
# The number of bits in every number of 16 bits, for numpy 1.26.
_BITS = np.array([number.bit_count() for number in range(1 << 16)], dtype=np.uint8)


class NearPair(NamedTuple):
    """Two pictures that are nearly the same in one of eight orientations.

    Attributes:
        first: Position of the one that comes first.
        second: Position of the other.
        distance: Bits of 255 that differ.
        turned: Whether one of them is turned or mirrored.
    """

    first: int
    second: int
    distance: int
    turned: bool


def near_pairs(hashes: Hashes, max_distance: int = MAX_DISTANCE) -> list[NearPair]:
    """Return all pairs of pictures whose hashes differ by few bits, in the order of their positions.

    Every picture is compared with every later one: first by the 63 bits that no mirroring changes, of which twice the share
    may differ, as it is and with exchanged axes; the few pairs that remain by all bits in eight orientations.

    Args:
        hashes: uint64 `(pictures, 4)`.
        max_distance: Largest number of bits that differ, of 255.
    """
    turned = orientations(hashes)
    # The second half of the orientations has exchanged axes.
    steady = [steady_bits(turned[number]) for number in (0, NUM_ORIENTATIONS // 2)]
    most = 2 * max_distance * 63 // 255
    found: list[NearPair] = []
    for start in range(0, len(hashes), _ROWS):
        rows = steady[0][start : start + _ROWS, None]
        candidates = []
        for column in range(start, len(hashes), _COLUMNS):
            other = slice(column, column + _COLUMNS)
            likely = bit_counts(rows ^ steady[0][None, other]) <= most
            likely |= bit_counts(rows ^ steady[1][None, other]) <= most
            near, far = np.nonzero(likely)
            candidates.append(np.stack([near + start, far + column])[:, far + column > near + start])
        first, second = np.concatenate(candidates, axis=1)
        distances = bit_counts(hashes[first][None] ^ turned[:, second]).sum(axis=-1)
        best = distances.argmin(axis=0)
        nearest = distances.min(axis=0)
        found += [
            NearPair(int(first[place]), int(second[place]), int(nearest[place]), bool(best[place] > 0))
            for place in np.flatnonzero(nearest <= max_distance)
        ]
    return sorted(found)


def bit_counts(words: Hashes) -> NDArray[np.uint8]:
    """Return the number of bits of each word, in its shape."""
    count = getattr(np, "bitwise_count", None)
    return counts_by_table(words) if count is None else np.asarray(count(words))


def counts_by_table(words: Hashes) -> NDArray[np.uint8]:
    """Return the number of bits of each word without numpy 2.

    Example:
        >>> counts_by_table(np.array([0, 255, 2**64 - 1], dtype=np.uint64)).tolist()
        [0, 8, 64]
    """
    halves = np.ascontiguousarray(words)[..., None].view(np.uint16)
    return np.asarray(_BITS[halves].sum(axis=-1), dtype=np.uint8)


def connected(num_items: int, pairs: Iterable[tuple[int, int]]) -> NDArray[np.int64]:
    """Return the group of each item, numbered from 0 in their order: items of a pair are in one group.

    Example:
        >>> connected(5, [(0, 3), (3, 4)]).tolist()
        [0, 1, 2, 0, 0]
    """
    parent = list(range(num_items))

    def root(item: int) -> int:
        while parent[item] != item:
            parent[item] = parent[parent[item]]
            item = parent[item]
        return item

    for first, second in pairs:
        low, high = sorted((root(first), root(second)))
        parent[high] = low
    return np.unique([root(item) for item in range(num_items)], return_inverse=True)[1].reshape(-1).astype(np.int64)
