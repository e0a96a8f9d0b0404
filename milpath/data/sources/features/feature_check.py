"""Checks that features are finite before anything is computed from them."""

from collections.abc import Sequence
from pathlib import Path

import numpy as np

_PART = 2**18  # values of float16 that are checked at a time


def require_finite(features: np.ndarray, bag_id: str, path: str | Path) -> None:
    """Refuse NaN and infinity in a file of features.

    Args:
        features: `(tiles, features)` float.
        bag_id: The bag.
        path: The file.

    Raises:
        ValueError: With the bag, row and column of the first such value.
    """
    if not all_finite(features):
        row, column = np.argwhere(~np.isfinite(features))[0]
        raise ValueError(
            f"bag {bag_id!r} in {path} has {features[row, column]} in column {column} (row {row}); "
            f"features must be finite numbers of {features.dtype}"
        )


def require_finite_bags(
    tiles: np.ndarray, lengths: Sequence[int] | np.ndarray, bag_ids: Sequence[str], path: str | Path
) -> None:
    """Refuse NaN and infinity in the bags of a batch that came from a store.

    Args:
        tiles: `(bags, tiles, ...)`; bytes are always finite and cost nothing.
        lengths: Number of tiles of each bag; the rest is padding.
        bag_ids: Names of the bags.
        path: The store.

    Raises:
        ValueError: With the bag, tile and value of the first bag that has one.
    """
    if all_finite(tiles):
        return
    for bag, length, bag_id in zip(tiles, lengths, bag_ids, strict=True):
        if (found := describe_non_finite(bag[:length])) is not None:
            raise ValueError(f"bag {bag_id!r} of {path}: {found}")


def describe_non_finite(tiles: np.ndarray) -> str | None:
    """Return a description of the first tile of a bag with a value that is not finite; `None` if all are.

    Example:
        >>> describe_non_finite(np.array([[0.0, 1.0], [2.0, np.nan]]))
        'tile 1 has nan in feature 1 (1 of 2 tiles are not finite); extract its features again, or leave the bag out'
    """
    if all_finite(tiles):
        return None
    finite = np.isfinite(tiles.reshape(len(tiles), -1))
    tile, feature = np.argwhere(~finite)[0]
    count = int((~finite.all(axis=1)).sum())
    return (
        f"tile {tile} has {tiles.reshape(len(tiles), -1)[tile, feature]} in feature {feature} "
        f"({count:,} of {len(tiles):,} tiles are not finite); extract its features again, or leave the bag out"
    )


def all_finite(values: np.ndarray) -> bool:
    """Return whether all values are finite, at memory speed.

    Example:
        >>> all_finite(np.array([65504, 1], np.float16)), all_finite(np.array([np.inf], np.float16))
        (True, False)
    """
    if values.dtype.kind != "f":
        return True
    if values.dtype == np.float16 and values.dtype.isnative:
        # numpy processes float16 values one by one; comparing their exponents as integers is ten times as fast, in parts
        # that stay in the cache rather than in new memory of the size of the batch.
        bits = np.ascontiguousarray(values).view(np.uint16).reshape(-1)
        parts = (bits[start : start + _PART] for start in range(0, len(bits), _PART))
        return all(int((part & np.uint16(0x7FFF)).max()) < 0x7C00 for part in parts)
    return bool(np.isfinite(values).all())
