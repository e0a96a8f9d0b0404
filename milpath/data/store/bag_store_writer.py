"""Writer of bag stores, which appear under their name only when they are complete."""

import itertools
import os
import shutil
from collections.abc import Callable, Mapping, Sequence
from datetime import UTC, datetime
from importlib.metadata import version
from pathlib import Path
from types import TracebackType
from typing import Any, Self

import numpy as np
import pandas as pd

from milpath.data.store.bag_store import FORMAT_VERSION
from milpath.data.store.store_digests import sealed_description
from milpath.records.atomic_files import atomic_path, sync_folder, write_json, write_text
from milpath.records.digests import sha256_of_file
from milpath.records.label_table import own_columns

_BLOCK_ROWS = 1 << 18
# Columns of bags.csv that the store needs itself.
_RESERVED = ("bag_id", "start", "num_tiles")


class BagStoreWriter:
    """Context manager that writes a bag store of any size with the memory of a single bag.

    The files are in a temporary folder next to `path` until the block ends without an exception.

    Args:
        path: Folder of the new store; it must not exist.
        source: `{"name": ..., "parameters": {...}}` of the source of the bags.
        extra: Additional entries of `store.json`, such as `microns_per_pixel` or `tiling`.

    Attributes:
        num_bags: Bags written so far.
        finished: Bags that an earlier process wrote; always empty here (see `ResumableStoreWriter`).
        expected_bags: Total number of bags, if the source sets it.
        on_bag: Called after each bag with these two.

    Raises:
        FileExistsError: If the path exists.

    Example:
        >>> import tempfile
        >>> from milpath.data.store.bag_store import BagStore
        >>> path = Path(tempfile.mkdtemp()) / "store"
        >>> with BagStoreWriter(path) as writer:
        ...     writer.add("slide_a", np.zeros((2, 8, 8, 3), np.uint8), labels={"label": 1})
        >>> BagStore.open(path).bags.to_dict("records")
        [{'bag_id': 'slide_a', 'start': 0, 'num_tiles': 2, 'label': 1}]
    """

    def __init__(
        self, path: str | Path, source: Mapping[str, Any] | None = None, extra: Mapping[str, Any] | None = None
    ) -> None:
        self.path = Path(path)
        if self.path.exists():
            raise FileExistsError(f"{self.path} exists; delete it or give another path")
        self.extra = dict(extra or {})
        self.num_bags = 0
        self.finished: Mapping[str, int] = {}
        self.expected_bags: int | None = None
        self.on_bag: Callable[[int, int | None], None] | None = None
        self._source = dict(source or {})
        self._partial = self.path.with_name(f"{self.path.name}.partial-{os.getpid()}")
        self._bag_ids: set[str] = set()
        self._rows: list[dict[str, Any]] = []
        self._tile_rows: list[dict[str, Any]] = []
        self._num_tiles = 0
        self._shape: tuple[int, ...] = ()
        self._dtype = np.dtype(np.uint8)

    def __enter__(self) -> Self:
        shutil.rmtree(self._partial, ignore_errors=True)
        self._partial.mkdir(parents=True)
        self._file = (self._partial / "tiles.npy").open("w+b")
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        try:
            if kind is None:
                self._finish()
        finally:
            self._file.close()
            shutil.rmtree(self._partial, ignore_errors=True)

    def add(
        self,
        bag_id: str,
        tiles: np.ndarray,
        labels: Mapping[str, Any],
        tile_rows: Mapping[str, Sequence[Any] | np.ndarray] | None = None,
    ) -> None:
        """Append a bag.

        Args:
            bag_id: Its name.
            tiles: `(tiles, height, width, channels)` uint8 or `(tiles, features)` float; at least one tile, with the
                same shape in all bags.
            labels: Columns of `bags.csv`; the same names for every bag. A name that the store needs itself, such as
                `start`, gets the prefix `labels:`.
            tile_rows: Columns of `tiles.csv`, one value per tile (`x`, `y`, `level`, `tile_label`); `None` if nothing
                is known.

        Raises:
            ValueError: If the bag has no tiles, or tiles of another shape or dtype than the bags before.
        """
        if len(tiles) == 0:
            raise ValueError(f"bag {bag_id!r} has no tiles")
        if not self._rows:
            self._shape, self._dtype = tiles.shape[1:], tiles.dtype
            self._write_header()
        if tiles.shape[1:] != self._shape or tiles.dtype != self._dtype:
            raise ValueError(
                f"tiles of bag {bag_id!r} are {tiles.dtype} {tiles.shape[1:]}, those of the bags before "
                f"{self._dtype} {self._shape}"
            )
        columns = {name: np.asarray(values) for name, values in (tile_rows or {}).items()}
        if any(len(values) != len(tiles) for values in columns.values()):
            raise ValueError(
                f"bag {bag_id!r} has {len(tiles)} tiles, but a tile column with a different number of rows"
            )
        if bag_id in self._bag_ids:
            raise ValueError(f"bag {bag_id!r} was added twice")
        self._file.write(np.ascontiguousarray(tiles).data)
        self._register(bag_id, len(tiles), labels, columns)

    def keep(self, bag_id: str, labels: Mapping[str, Any]) -> None:
        """Add one of the `finished` bags."""
        raise ValueError(f"bag {bag_id!r} was not written by an earlier process")

    def _register(
        self, bag_id: str, num_tiles: int, labels: Mapping[str, Any], columns: Mapping[str, np.ndarray]
    ) -> None:
        """Append the rows of a bag whose tiles are in the file."""
        self._bag_ids.add(bag_id)
        self._rows.append(
            {"bag_id": bag_id, "start": self._num_tiles, "num_tiles": num_tiles, **own_columns(labels, _RESERVED)}
        )
        self._tile_rows.append(dict(columns))
        self._num_tiles += num_tiles
        self.num_bags += 1
        if self.on_bag is not None:
            self.on_bag(self.num_bags, self.expected_bags)

    def _write_header(self) -> None:
        """Write the header of the array; numpy reserves space in it for a longer first axis."""
        self._file.seek(0)
        header = {
            "descr": np.lib.format.dtype_to_descr(self._dtype),
            "fortran_order": False,
            "shape": (self._num_tiles, *self._shape),
        }
        np.lib.format.write_array_header_1_0(self._file, header)

    def _remove_work_files(self) -> None:
        """Remove what only an unfinished store has; called when everything else is on disk."""

    def _write_tile_rows(self, bags: pd.DataFrame) -> None:
        """Write `tiles.csv`, the rows of some bags at a time: as a table, ten million rows take gigabytes."""
        # A column has one type in all bags, as if they were put together.
        kinds = {name: np.result_type(*{rows[name].dtype for rows in self._tile_rows}) for name in self._tile_rows[0]}
        block = (bags["start"].to_numpy() // _BLOCK_ROWS).tolist()
        with atomic_path(self._partial / "tiles.csv") as path, path.open("w", newline="", encoding="utf-8") as file:
            for _, group in itertools.groupby(range(len(bags)), key=block.__getitem__):
                own = list(group)
                bag_ids = np.repeat(bags["bag_id"].to_numpy()[own], bags["num_tiles"].to_numpy()[own])
                columns = {
                    name: np.concatenate([self._tile_rows[bag][name] for bag in own]).astype(kind, copy=False)
                    for name, kind in kinds.items()
                }
                pd.DataFrame({"bag_id": bag_ids, **columns}).to_csv(file, index=False, header=own[0] == 0)

    def _finish(self) -> None:
        """Complete the files and rename the folder."""
        if not self._rows:
            raise ValueError(f"no bag was written to {self.path}: the source is empty")
        self._write_header()
        self._file.flush()
        os.fsync(self._file.fileno())
        bags = pd.DataFrame(self._rows)
        write_text(self._partial / "bags.csv", bags.to_csv(index=False))
        self._write_tile_rows(bags)
        description = {
            "format_version": FORMAT_VERSION,
            "source": self._source,
            "num_bags": len(bags),
            "num_tiles": self._num_tiles,
            "tile_columns": list(self._tile_rows[0]),
            "sha256": sha256_of_file(self._partial / "tiles.npy"),
            "created_by": f"milpath {version('milpath')}",
            "created": datetime.now(UTC).isoformat(timespec="seconds"),
            **self.extra,
        }
        write_json(self._partial / "store.json", sealed_description(description, self._partial))
        self._remove_work_files()
        self._partial.replace(self.path)
        sync_folder(self.path.parent)
