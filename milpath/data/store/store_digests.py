"""Digests of the parts of a bag store, written to store.json and verified whenever the store is opened."""

import errno
import json
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from milpath.data.store.verified_arrays import announce, is_remembered, remember
from milpath.records.digests import sha256_of_file, sha256_of_values
from milpath.records.error_text import reason_of
from milpath.records.plain_values import read_json

TABLES = ("bags.csv", "tiles.csv")
ARRAY = "tiles.npy"
# Errors of a disk, a network or a process, whatever is in the file.
_OF_SYSTEM = (errno.EIO, errno.ESTALE, errno.ETIMEDOUT, errno.ENOTCONN, errno.EMFILE, errno.ENFILE)
# Columns of `tiles.csv` that are drawn or counted.
_NUMBERS = {"x", "y", "level", "x0", "y0", "size0", "tile_label"}
# Tables of at least this size are hashed once per change rather than whenever a store is opened.
_REMEMBERED_BYTES = 16 << 20
_AGAIN = "copy the store again from its source, or delete it and build it again"


def sealed_description(description: Mapping[str, Any], folder: Path) -> dict[str, Any]:
    """Return the content of `store.json` with sizes and digests of all parts, and a digest of itself.

    Args:
        description: The other entries; `sha256` is that of `tiles.npy`.
        folder: Folder with the finished `tiles.npy`, `bags.csv` and `tiles.csv`.
    """
    array = np.load(folder / ARRAY, mmap_mode="r", allow_pickle=False)
    parts: dict[str, Any] = {
        ARRAY: {"bytes": (folder / ARRAY).stat().st_size, "dtype": array.dtype.str, "shape": list(array.shape)}
    }
    for name in TABLES:
        parts[name] = {"bytes": (folder / name).stat().st_size, "sha256": sha256_of_file(folder / name)}
    content = {key: value for key, value in description.items() if key not in ("parts", "digest")} | {"parts": parts}
    # As it will be read back: JSON has neither tuples nor numeric keys.
    content = dict(json.loads(json.dumps(content, allow_nan=False)))
    return content | {"digest": sha256_of_values(content)}


def why_unreadable(path: Path, error: BaseException) -> OSError | ValueError:
    """Return the error of a store whose array cannot be mapped: one that is not at hand is not to be deleted.

    Args:
        path: The store.
        error: What was raised.
    """
    file = path / ARRAY
    if isinstance(error, PermissionError):
        return PermissionError(
            f"{file} may not be read ({error.strerror}); allow reading it, or give a store that you may read"
        )
    if isinstance(error, OSError) and error.errno in _OF_SYSTEM:
        return OSError(f"{file} cannot be read now ({error.strerror}); see to its disk, or give a copy of {path}")
    return ValueError(f"{file} cannot be read ({reason_of(error)}); delete {path} and build it again")


def read_description(path: Path) -> dict[str, Any]:
    """Return the content of the `store.json` of a store.

    Raises:
        ValueError: If it is not the description of a store, or was changed after it was written.
    """
    file = path / "store.json"
    try:
        # Its tiling is copied into the cards of checkpoints, which contain only plain values.
        description = read_json(file)
    except ValueError as error:
        raise ValueError(f"{error}; {_AGAIN}") from None
    if not isinstance(description, dict):
        raise ValueError(f"{file} is not the description of a bag store; {_AGAIN}")
    return description


def require_unchanged_description(path: Path, description: Mapping[str, Any]) -> None:
    """Refuse a `store.json` that was edited or damaged; stores of milpath 0.1.0 have no digest to compare."""
    if "digest" in description or "parts" in description:
        content = {key: value for key, value in description.items() if key != "digest"}
        if description.get("digest") != sha256_of_values(content):
            raise ValueError(
                f"{path / 'store.json'} was changed after it was written; undo the change (its content describes the "
                f"tiles as they were cut), or {_AGAIN}"
            )
    elif not isinstance(description.get("sha256"), str) or "tile_columns" not in description:
        raise ValueError(f"{path / 'store.json'} lacks sha256 or tile_columns; {_AGAIN}")


def require_unchanged_parts(
    path: Path, description: Mapping[str, Any], bags: pd.DataFrame, tiles: np.ndarray, *, verify: bool
) -> None:
    """Verify all parts of a store against `store.json`.

    Sizes and counts are verified each time, the hash of the array and that of a large table once per change of its file.

    Args:
        path: Folder of the store.
        description: Content of `store.json`, unchanged.
        bags: Content of `bags.csv`.
        tiles: The memory-mapped array.
        verify: False skips the hash of the array.

    Raises:
        FileNotFoundError: If there is no `tiles.csv`.
        ValueError: With the part that was changed, and what to do.
    """
    if not (path / "tiles.csv").is_file():
        raise FileNotFoundError(f"{path} has no tiles.csv; {_AGAIN}")
    found = {"num_bags": len(bags), "num_tiles": len(tiles)}
    for key, count in found.items():
        if description.get(key, count) != count:
            raise ValueError(f"{path} has {key}={count:,}, but store.json says {description[key]}; {_AGAIN}")
    size = (path / ARRAY).stat().st_size
    if size != int(getattr(tiles, "offset", 0)) + tiles.nbytes:
        raise ValueError(
            f"{path / ARRAY} has {size:,} bytes, which contradicts its header: it was changed after it was written; {_AGAIN}"
        )
    if "parts" in description:
        _compare_parts(path, description["parts"], tiles)
    else:
        _require_old_tables(path, bags)
    if verify:
        _require_array(path, description["sha256"], size)


def require_same_bags(path: Path, bag_ids: pd.Series, bags: pd.DataFrame) -> None:
    """Refuse a `tiles.csv` whose rows are not in the order of `bags.csv`.

    Args:
        path: The store.
        bag_ids: Column `bag_id` of `tiles.csv`.
        bags: Content of `bags.csv`.
    """
    require_num_rows(path, len(bag_ids), bags)
    require_same_rows(path, bag_ids, bags)


def require_num_rows(path: Path, count: int, bags: pd.DataFrame) -> None:
    """Refuse a `tiles.csv` with more or fewer rows than `bags.csv` counts tiles."""
    if count != (expected := int(bags["num_tiles"].sum())):
        raise ValueError(f"{path / 'tiles.csv'} has {count:,} rows, but bags.csv counts {expected:,} tiles; {_AGAIN}")


def require_same_rows(path: Path, bag_ids: pd.Series, bags: pd.DataFrame, first: int = 0) -> None:
    """Refuse rows of `tiles.csv` that are not of the bags of `bags.csv` in their order.

    Args:
        path: The store.
        bag_ids: Column `bag_id` of consecutive rows of `tiles.csv`.
        bags: Content of `bags.csv`.
        first: Number of the first of these rows.
    """
    ends = bags["num_tiles"].cumsum().to_numpy()
    of_bags = np.searchsorted(ends, np.arange(first, first + len(bag_ids)), side="right")
    if len(of_bags) and of_bags[-1] == len(bags):  # a row after the last bag
        require_num_rows(path, first + len(bag_ids), bags)
    expected = bags["bag_id"].to_numpy()[of_bags]
    different = bag_ids.to_numpy() != expected
    if different.any():
        row = int(different.argmax())
        raise ValueError(
            f"{path / 'tiles.csv'} has a tile of {bag_ids.iloc[row]!r} in row {first + row + 2}, where bags.csv has one of "
            f"{expected[row]!r}: one of them was sorted or changed; {_AGAIN}"
        )


def require_finite_places(path: Path, table: pd.DataFrame, starts: NDArray[np.int64], first: int = 0) -> None:
    """Refuse rows of `tiles.csv` with an infinite position: an empty cell means none, and infinity would be drawn.

    Args:
        path: The store.
        table: Consecutive rows of `tiles.csv`.
        starts: First row of each bag.
        first: Number of the first of these rows.
    """
    for name in _NUMBERS & set(table.columns):
        if (infinite := np.isinf(pd.to_numeric(table[name], errors="coerce"))).any():
            row = int(infinite.to_numpy().argmax())
            tile = first + row - int(starts[np.searchsorted(starts, first + row, side="right") - 1])
            raise ValueError(
                f"{path / 'tiles.csv'} has {name}={table[name].iloc[row]} for tile {tile} of bag "
                f"{table['bag_id'].iloc[row]!r}; give a finite number, or leave the cell empty"
            )


def sha256_of_table(path: Path, description: Mapping[str, Any], name: str) -> str:
    """Return the digest of a table of an open store, which a store of milpath 0.1.0 does not say."""
    return str(description["parts"][name]["sha256"]) if "parts" in description else sha256_of_file(path / name)


def _compare_parts(path: Path, parts: Mapping[str, Any], tiles: np.ndarray) -> None:
    """Verify the header of the array and the digests of both tables."""
    array = {"bytes": (path / ARRAY).stat().st_size, "dtype": tiles.dtype.str, "shape": list(tiles.shape)}
    if array != parts[ARRAY]:
        differing = next(key for key in array if array[key] != parts[ARRAY].get(key))
        raise ValueError(
            f"{path / ARRAY} was changed after it was written ({differing} {array[differing]}, not "
            f"{parts[ARRAY].get(differing)}); {_AGAIN}"
        )
    for name in TABLES:
        file = path / name
        if file.stat().st_size != parts[name]["bytes"] or not _has_digest(file, parts[name]["sha256"]):
            raise ValueError(
                f"{file} was changed after it was written; if you corrected it yourself, accept it with "
                f'python -c "from milpath.data import seal_store; seal_store({str(path)!r})", otherwise {_AGAIN}'
            )


def _has_digest(file: Path, sha256: str) -> bool:
    """Return whether a file has a digest; a large one is read again only if it has changed."""
    large = file.stat().st_size >= _REMEMBERED_BYTES
    if large and is_remembered(file, sha256):
        return True
    before = file.stat()
    if sha256_of_file(file) != sha256:
        return False
    if large:
        remember(file, sha256, before)
    return True


def _require_old_tables(path: Path, bags: pd.DataFrame) -> None:
    """Check that `tiles.csv` is in the order of `bags.csv`, for a store without digests."""
    state = f"follows bags.csv {sha256_of_file(path / 'bags.csv')}"
    if is_remembered(path / "tiles.csv", state):
        return
    before = (path / "tiles.csv").stat()
    count = 0
    for bag_ids in _bag_ids_of(path / "tiles.csv"):
        require_same_rows(path, bag_ids, bags, count)
        count += len(bag_ids)
    require_num_rows(path, count, bags)
    remember(path / "tiles.csv", state, before)


def _bag_ids_of(file: Path) -> Iterator[pd.Series]:
    """Yield the names of bags in a table of tiles, some rows at a time."""
    try:
        with pd.read_csv(file, usecols=["bag_id"], dtype=str, keep_default_na=False, chunksize=1 << 18) as blocks:
            for rows in blocks:
                yield rows["bag_id"]
    except ValueError as error:
        raise ValueError(f"{file} is not a table of tiles ({str(error).strip()}); {_AGAIN}") from None


def _require_array(path: Path, sha256: str, size: int) -> None:
    """Verify the hash of the array, unless it was verified since the file last changed."""
    if is_remembered(path / ARRAY, sha256):
        return
    announce(path / ARRAY, size)
    before = (path / ARRAY).stat()
    if sha256_of_file(path / ARRAY) != sha256:
        raise ValueError(f"{path / ARRAY} was changed after it was written; {_AGAIN}")
    remember(path / ARRAY, sha256, before)


def require_counts(path: Path, bags: pd.DataFrame, num_tiles: int) -> None:
    """Refuse a `bags.csv` whose bags are not consecutive and do not cover all tiles.

    Args:
        path: The store.
        bags: Content of `bags.csv`.
        num_tiles: Tiles of the array.
    """
    for name in ("start", "num_tiles"):
        if not pd.api.types.is_integer_dtype(bags[name]):
            raise ValueError(
                f"column {name!r} of {path / 'bags.csv'} contains values that are not whole numbers; "
                "delete the folder and build it again"
            )
    starts = bags["num_tiles"].cumsum() - bags["num_tiles"]
    if num_tiles != bags["num_tiles"].sum():
        raise ValueError(
            f"{path} has {num_tiles:,} tiles but bags.csv counts {bags['num_tiles'].sum():,}; "
            "delete the folder and build it again"
        )
    wrong = (bags["num_tiles"] < 1) | (starts != bags["start"])
    if wrong.any():
        row = int(wrong.to_numpy().argmax())
        name, start = str(bags["bag_id"].iloc[row]), bags["start"].iloc[row]
        empty = bags["num_tiles"].iloc[row] < 1
        found = f"bag {name!r} without tiles" if empty else f"start {start} of bag {name!r}, not {starts.iloc[row]}"
        raise ValueError(f"{path / 'bags.csv'} has {found}; delete the folder and build it again")
