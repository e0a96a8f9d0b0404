"""The rows of `tiles.csv`: read as a table if it is small, otherwise from an index beside it, a bag at a time.

`tiles.csv` is what a store holds; the index is made from it, the first time that a row of it is asked for:

- `.tiles.npy`: float64 `(tiles, columns)` in plain numpy format, NaN for an empty cell;
- `.tiles.json`: names of the columns, which of them hold whole numbers, digests of the array, of both tables and of itself.
"""

import hashlib
import io
import logging
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from milpath.data.store.store_digests import (
    TABLES,
    require_finite_places,
    require_num_rows,
    require_same_bags,
    require_same_rows,
    sha256_of_table,
)
from milpath.data.store.verified_arrays import is_remembered, remember
from milpath.records.atomic_files import atomic_path, write_json
from milpath.records.digests import sha256_of_file, sha256_of_values
from milpath.records.label_table import read_written_blocks, read_written_table
from milpath.records.plain_values import read_json

INDEX_FILES = INDEX, ABOUT = ".tiles.npy", ".tiles.json"
# A smaller table is read within half a second, and no index is made for it (about 300,000 tiles).
SMALLEST_BYTES = 16 << 20
_FORMAT_VERSION = 1
_BLOCK_ROWS = 1 << 18
# Whole numbers up to here are exact in float64.
_LARGEST_WHOLE = 1 << 53
_log = logging.getLogger(__name__)


class TileTable:
    """The rows of the `tiles.csv` of an open store.

    Args:
        path: Folder of the store.
        description: Content of `store.json`.
        bags: Content of `bags.csv`.
    """

    def __init__(self, path: Path, description: Mapping[str, Any], bags: pd.DataFrame) -> None:
        self.path, self.description, self.bags = path, description, bags

    @cached_property
    def _index(self) -> "TileIndex | None":
        return open_index(self.path, self.bags, self.description)

    @cached_property
    def whole(self) -> pd.DataFrame:
        """All rows, in memory.

        Raises:
            ValueError: If the table does not follow `bags.csv`, or has a place that is not finite.
        """
        if self._index is not None:
            return self._index.rows(slice(None))
        table = read_written_table(self.path / "tiles.csv", required=("bag_id",), unique=False)
        require_same_bags(self.path, table["bag_id"], self.bags)
        require_finite_places(self.path, table, self.bags["start"].to_numpy())
        return table

    def rows(self, chosen: slice | NDArray[np.int64]) -> pd.DataFrame:
        """Return some rows, labelled with their row numbers; of a large table, only these are read."""
        return self.whole.iloc[chosen] if self._index is None else self._index.rows(chosen)

    def labels(self, chosen: slice | NDArray[np.int64]) -> NDArray[np.int64] | None:
        """Return the label of some tiles, -1 if unknown; `None` if no label of the store is known."""
        # The table is read only if it has labels.
        if "tile_label" not in self.description["tile_columns"]:
            return None
        if self._index is None:
            return self._labels[chosen]
        return _labels_of(pd.Series(self._index.column("tile_label", chosen)))

    @cached_property
    def _labels(self) -> NDArray[np.int64]:
        return _labels_of(self.whole["tile_label"])


def _labels_of(column: pd.Series) -> NDArray[np.int64]:
    return column.fillna(-1).to_numpy(dtype=np.int64)


@dataclass(frozen=True)
class TileIndex:
    """The rows of a large `tiles.csv`, of which a few kilobytes are read per bag.

    Attributes:
        columns: Its columns in order, with `bag_id`.
        whole: Names of the columns of whole numbers; the others are float64.
        values: `(tiles, columns without bag_id)` float64, usually mapped from the disk.
        bags: Content of `bags.csv`.
    """

    columns: Sequence[str]
    whole: frozenset[str]
    values: NDArray[np.float64]
    bags: pd.DataFrame

    @cached_property
    def _starts(self) -> NDArray[np.int64]:
        return self.bags["start"].to_numpy(np.int64)

    def rows(self, chosen: slice | NDArray[np.int64]) -> pd.DataFrame:
        """Return the rows of some tiles as they are in the table, labelled with their row numbers.

        Args:
            chosen: A slice with start and stop, or row numbers.
        """
        if isinstance(chosen, slice):
            first, last, step = chosen.indices(len(self.values))
            numbers: Any = pd.RangeIndex(first, last, step)
        else:
            numbers = np.asarray(chosen)
        values = np.array(self.values[chosen])
        of_bags = np.searchsorted(self._starts, np.asarray(numbers), side="right") - 1
        places = {name: place for place, name in enumerate(name for name in self.columns if name != "bag_id")}
        cells: dict[str, Any] = {
            name: self.bags["bag_id"].to_numpy()[of_bags]
            if name == "bag_id"
            else self._typed(name, values[:, places[name]])
            for name in self.columns
        }
        return pd.DataFrame(cells, index=numbers)

    def column(self, name: str, chosen: slice | NDArray[np.int64] = slice(None)) -> NDArray[Any]:
        """Return a column of numbers of some tiles, int64 or float64."""
        place = [each for each in self.columns if each != "bag_id"].index(name)
        return self._typed(name, np.array(self.values[chosen, place]))

    def _typed(self, name: str, values: NDArray[np.float64]) -> NDArray[Any]:
        return values.astype(np.int64) if name in self.whole else np.ascontiguousarray(values)


def open_index(path: Path, bags: pd.DataFrame, description: Mapping[str, Any]) -> TileIndex | None:
    """Return the index of a store, made now if there is none; `None` if its table is small or is not of numbers.

    An index that does not belong to the table, or was damaged, is not used: one line says so, and it is made again. Where
    the folder cannot be written to, the numbers are kept in memory.

    Args:
        path: Folder of the store.
        bags: Content of `bags.csv`.
        description: Content of `store.json`, with which the tables agree.

    Raises:
        ValueError: If `tiles.csv` does not follow `bags.csv`, or has a place that is not finite.
    """
    if (path / "tiles.csv").stat().st_size < SMALLEST_BYTES:
        return None
    digests = {name: sha256_of_table(path, description, name) for name in TABLES}
    about = _about(path, digests)
    if about is None:
        return _make(path, bags, digests)
    if about["columns"] is None:
        return None
    return TileIndex(about["columns"], frozenset(about["whole"]), _mapped(path / INDEX, about["columns"]), bags)


def _about(path: Path, digests: Mapping[str, str]) -> dict[str, Any] | None:
    """Return what an index says of itself; `None` without one that belongs to the tables and is whole."""
    if not (path / ABOUT).is_file():
        return None
    try:
        about = read_json(path / ABOUT)
        if not isinstance(about, dict) or about.get("format_version") != _FORMAT_VERSION:
            raise ValueError("is not of this format")
        if about.pop("digest") != sha256_of_values(about):
            raise ValueError(f"{ABOUT} was changed after it was written")
        if about["tables"] != dict(digests):
            raise ValueError("belongs to other tables")
        if about["columns"] is not None:
            _require_array(path / INDEX, about)
    except (OSError, ValueError, KeyError, TypeError) as error:
        reason = "cannot be read" if isinstance(error, KeyError | TypeError) else " ".join(str(error).split())
        _log.warning("%s is not used (%s); it is made again from tiles.csv", path / INDEX, reason)
        return None
    return about


def _require_array(file: Path, about: Mapping[str, Any]) -> None:
    """Verify the digest of the array, once until its file changes, and its form."""
    if not is_remembered(file, about["sha256"]):
        before = file.stat()
        if sha256_of_file(file) != about["sha256"]:
            raise ValueError("was changed after it was written")
        remember(file, about["sha256"], before)
    names = about["columns"]
    values = _mapped(file, names)
    fits = isinstance(names, list) and values.ndim == 2 and values.shape[1] == len(names) - 1 and "bag_id" in names
    if not fits or values.dtype != np.float64 or not set(about["whole"]) <= set(names) - {"bag_id"}:
        raise ValueError("has another form than it says")


def _make(path: Path, bags: pd.DataFrame, digests: Mapping[str, str]) -> TileIndex | None:
    """Make the index of a table and return it."""
    size = (path / "tiles.csv").stat().st_size
    if size >= 1 << 30:
        _log.info("making the index of %s (%.0f GB), once until it changes", path / "tiles.csv", size / 1e9)
    blocks = _Blocks(path, bags)
    try:
        sha256 = _write(path / INDEX, blocks)
        about: dict[str, Any] = {"columns": blocks.columns, "whole": sorted(blocks.whole), "sha256": sha256}
        about |= {"format_version": _FORMAT_VERSION, "tables": dict(digests)}
        write_json(path / ABOUT, about | {"digest": sha256_of_values(about)})
        values = None if blocks.columns is None else _mapped(path / INDEX, blocks.columns)
    except OSError as error:
        _log.info(
            "%s cannot be written (%s); the numbers of the tiles are kept in memory", path / INDEX, error.strerror
        )
        blocks = _Blocks(path, bags)
        values = np.concatenate(list(blocks))
    if blocks.columns is None or values is None:
        return None
    return TileIndex(blocks.columns, frozenset(blocks.whole), values, bags)


def _write(file: Path, blocks: "_Blocks") -> str:
    """Write the array and return its digest."""
    digest = hashlib.sha256()
    with atomic_path(file, durable=False) as temporary, temporary.open("wb") as target:
        for block in blocks:
            if not target.tell():
                header = io.BytesIO()
                shape = (int(blocks.bags["num_tiles"].sum()), block.shape[1])
                np.lib.format.write_array_header_1_0(header, {"descr": "<f8", "fortran_order": False, "shape": shape})
                digest.update(header.getvalue())
                target.write(header.getvalue())
            data = np.ascontiguousarray(block, "<f8").tobytes()
            digest.update(data)
            target.write(data)
    return digest.hexdigest()


def _mapped(file: Path, columns: Sequence[str]) -> NDArray[np.float64]:
    """Return the mapped array; one without columns cannot be mapped."""
    values: NDArray[np.float64] = np.load(file, mmap_mode="r" if len(columns) > 1 else None, allow_pickle=False)
    return values


class _Blocks:
    """The numbers of a `tiles.csv`, some rows at a time, `(rows, columns)` float64, each block compared with `bags.csv`.

    Attributes:
        columns: Columns of the table, once it has been read; None if one of them holds something else than numbers.
        whole: Those of whole numbers only.
        bags: Content of `bags.csv`.
    """

    def __init__(self, path: Path, bags: pd.DataFrame) -> None:
        self.path, self.bags = path, bags
        self.columns: list[str] | None = None
        self.whole: set[str] = set()

    def __iter__(self) -> Iterator[NDArray[np.float64]]:
        count = 0
        for table in read_written_blocks(self.path / "tiles.csv", _BLOCK_ROWS):
            require_same_rows(self.path, table["bag_id"], self.bags, count)
            numbers = table.drop(columns="bag_id")
            whole = {str(name) for name in numbers if numbers[name].dtype == np.int64}
            words = [name for name in numbers if name not in whole and numbers[name].dtype != np.float64]
            if words or any(numbers[name].abs().max() > _LARGEST_WHOLE for name in whole):
                self.columns = None
                return
            require_finite_places(self.path, table, self.bags["start"].to_numpy(), count)
            self.whole = whole if count == 0 else self.whole & whole
            self.columns = list(table.columns)
            count += len(table)
            yield numbers.to_numpy(np.float64)
        require_num_rows(self.path, count, self.bags)
