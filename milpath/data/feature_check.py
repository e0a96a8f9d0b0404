"""Features have to be numbers before anything is computed from them."""

from pathlib import Path

import numpy as np


def require_finite(features: np.ndarray, bag_id: str, path: str | Path) -> None:
    """Refuse NaN and infinity.

    Args:
        features: `(tiles, features)` float.
        bag_id: The bag.
        path: Where it comes from.

    Raises:
        ValueError: Naming bag, row and column of the first such value.
    """
    # The sum is finite unless a value is not (or the sum overflows): one pass, and the search only where it says so.
    with np.errstate(over="ignore", invalid="ignore"):
        suspicious = not np.isfinite(features.sum(dtype=np.float64))
    if suspicious and not (finite := np.isfinite(features)).all():
        row, column = np.argwhere(~finite)[0]
        raise ValueError(
            f"bag {bag_id!r} in {path} has {features[row, column]} in column {column} (row {row}); "
            f"features must be finite numbers of {features.dtype}"
        )
