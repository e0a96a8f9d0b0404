"""The bag store: a folder with one memory-mapped array of tiles.

- `tiles.npy`: uint8 `(tiles, height, width, channels)` or float `(tiles, features)`, plain numpy format
- `bags.csv`: `bag_id`, `start`, `num_tiles`, then the columns of the source
- `tiles.csv`: `bag_id`, then `x`, `y`, `level`, `x0`, `y0`, `size0` and `tile_label` if known; one row per tile, in order
- `store.json`: format_version, source, sha256 of `tiles.npy`, sizes and digests of all parts, version of the writer
"""

import itertools
import os
import weakref
from collections.abc import Sequence
from functools import cached_property
from pathlib import Path
from tokenize import TokenError
from typing import Any, NamedTuple

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from milpath.data.store.store_digests import (
    TABLES,
    read_description,
    require_counts,
    require_unchanged_description,
    require_unchanged_parts,
    why_unreadable,
)
from milpath.data.store.tile_table import TileTable
from milpath.records.data_warning import require_warning
from milpath.records.digests import sha256_of_file, sha256_of_values
from milpath.records.label_table import read_written_table

FORMAT_VERSION = 1
# Exceptions that numpy raises for invalid headers, which it parses with Python's tokenizer.
_BROKEN_ARRAY = (
    OSError, EOFError, ValueError, SyntaxError, TypeError, OverflowError, RecursionError, MemoryError, TokenError,
)  # fmt: skip
# Keys of `store.json` about when, by which version and from where a store was written.
_NO_CONTENT = ("created", "created_by", "source", "digest")
# Tiles of a bag: a slice of the array, or row numbers.
TileRows = slice | NDArray[np.int64]


class SlidePart(NamedTuple):
    """A slide of a bag.

    Attributes:
        position: Position of the slide in `BagStore.slide_store`.
        rows: Its tiles among those of the bag.
    """

    position: int
    rows: slice


class BagStore:
    """A bag store, open for reading.

    Attributes:
        path: The folder.
        description: Content of `store.json`.
        bags: One row per bag: `bag_id`, `start`, `num_tiles` and the columns of the source.
        tiles: Memory map of `tiles.npy`; reading a slice reads only these tiles from disk.
        stored_bags: Rows of all bags on disk; `bags` may be some of them (see `view`).
        array_sha256: Hash of `tiles.npy`.
    """

    def __init__(self, path: Path, description: dict[str, Any], bags: pd.DataFrame, tiles: np.ndarray) -> None:
        self.path = path
        self.description = description
        self.array_sha256 = description["sha256"]
        self.bags = bags
        self.tiles = tiles
        self.stored_bags = bags
        self._starts = bags["start"].to_numpy()
        self._lengths = bags["num_tiles"].to_numpy()
        self._file = os.open(path / "tiles.npy", os.O_RDONLY | getattr(os, "O_CLOEXEC", 0))
        self._offset = int(getattr(tiles, "offset", 0))
        weakref.finalize(self, os.close, self._file)

    @classmethod
    def open(cls, path: str | Path, *, verify: bool = True) -> "BagStore":
        """Open a store.

        Sizes, counts and hashes of the tables are verified against `store.json`; the hash of `tiles.npy`, and that of a
        table of more than 16 MB, once per change of the file (see `verified_arrays`).

        Args:
            path: The folder.
            verify: False skips the hash of `tiles.npy`, and nothing else.

        Raises:
            FileNotFoundError: If there is no store at the path.
            ValueError: If a part was changed after it was written, the files contradict each other, or the format is
                not supported.
        """
        path = Path(path)
        if not (path / "store.json").is_file():
            raise FileNotFoundError(f"no bag store at {path} (no store.json); give a folder that milpath.tile wrote")
        description = read_description(path)
        if description.get("format_version") != FORMAT_VERSION:
            raise ValueError(
                f"{path} has format_version {description.get('format_version')!r}, this release reads "
                f"{FORMAT_VERSION}; delete the folder and build it again"
            )
        require_unchanged_description(path, description)
        bags = read_written_table(path / "bags.csv", required=("bag_id", "start", "num_tiles"))
        tiles = cls.map_tiles(path)
        require_counts(path, bags, len(tiles))
        require_unchanged_parts(path, description, bags, tiles, verify=verify)
        return cls(path, description, bags, tiles)

    def view(self, bags: pd.DataFrame, description: dict[str, Any]) -> "BagStore":
        """Return some bags of this store, with other columns.

        Args:
            bags: Rows of `bags` with the index 0, 1, ...; `bag_id`, `start` and `num_tiles` unchanged.
            description: The description of these bags.
        """
        view = BagStore(self.path, description, bags, self.tiles)
        view.stored_bags = self.stored_bags
        view.array_sha256 = self.array_sha256
        view._tile_table = self._tile_table
        return view

    @staticmethod
    def map_tiles(path: Path) -> np.ndarray:
        """Return the memory-mapped array of a store.

        Raises:
            ValueError: If it cannot be mapped.
            OSError: If the system does not let it be read.
        """
        try:
            tiles = np.load(path / "tiles.npy", mmap_mode="r", allow_pickle=False)
        except _BROKEN_ARRAY as error:
            raise why_unreadable(path, error) from None
        if not isinstance(tiles, np.ndarray) or not tiles.ndim:
            raise ValueError(f"{path / 'tiles.npy'} is not an array of tiles; delete {path} and build it again")
        if not tiles.flags.c_contiguous:
            raise ValueError(f"{path / 'tiles.npy'} is in column-major order; write it with numpy.ascontiguousarray")
        return tiles

    def __len__(self) -> int:
        return len(self.bags)

    @property
    def tile_shape(self) -> tuple[int, ...]:
        """`(height, width, channels)` of a tile or `(features,)`."""
        return tuple(self.tiles.shape[1:])

    @property
    def warning(self) -> str:
        """What the data say against themselves (see `milpath.records.data_warning`); empty for tissue."""
        return require_warning(self.description.get("warning", ""), f"warning in {self.path / 'store.json'}")

    @property
    def num_tiles(self) -> np.ndarray:
        """Number of tiles of each bag, `(bags,)`."""
        return np.asarray(self._lengths)

    @cached_property
    def _tile_table(self) -> TileTable:
        return TileTable(self.path, self.description, self.stored_bags)

    @property
    def tiles_table(self) -> pd.DataFrame:
        """One row per tile, in the order of `tiles`: `bag_id` and, if known, `x`, `y`, `level`, `tile_label`.

        In memory it takes 150 bytes per tile; `tile_rows` reads those of a bag only.
        """
        return self._tile_table.whole

    def tile_rows(self, chosen: TileRows) -> pd.DataFrame:
        """Return the rows of `tiles_table` of some tiles, as `tile_slice` returns them."""
        return self._tile_table.rows(chosen)

    def labels_of_tiles(self, chosen: TileRows) -> NDArray[np.int64] | None:
        """Return the label of some tiles, int64 with -1 if unknown; `None` if no label of the store is known."""
        return self._tile_table.labels(chosen)

    @property
    def tile_labels(self) -> NDArray[np.int64] | None:
        """Label of each tile, `(tiles,)` int64 with -1 if unknown; `None` if no label is known."""
        return self.labels_of_tiles(slice(None))

    # Whether bags may have several slides.
    grouped = False

    @property
    def slide_store(self) -> "BagStore":
        """The store with a bag per slide: this one, unless its bags have several slides (`GroupedStore`)."""
        return self

    def of_slides(self, slides: "BagStore") -> "BagStore":
        """Return the same bags of another store with the same slides, such as the features of their tiles."""
        return slides

    def slides_of(self, index: int) -> list[SlidePart]:
        """Return the slides of a bag and where their tiles are in it."""
        return [SlidePart(index, slice(0, int(self._lengths[index])))]

    def ranges(self, index: int) -> list[slice]:
        """Return the slices of the tiles of a bag, one per slide."""
        start = int(self._starts[index])
        return [slice(start, start + int(self._lengths[index]))]

    def tile_slice(self, index: int) -> TileRows:
        """Return the tiles of a bag: a slice if it has one slide, otherwise `(tiles,)` row numbers."""
        return self.ranges(index)[0]

    def read_into(self, index: int, out: np.ndarray) -> None:
        """Read the tiles of a bag from the file into existing memory.

        Unlike a slice of the memory map, this leaves no page of the file in the memory of the process, which stays
        constant for any size of the store, and it requests the whole bag from the disk at once.

        Args:
            index: Position of the bag.
            out: `(tiles of the bag, ...)`, contiguous, in the dtype of the store.
        """
        assert out.shape == (self.num_tiles[index], *self.tile_shape), (out.shape, index)
        assert out.flags.c_contiguous
        done = 0
        for where in self.ranges(index):
            self._read_range(where, out[done : done + where.stop - where.start])
            done += where.stop - where.start

    def read_some(self, index: int, chosen: NDArray[np.int64], out: np.ndarray) -> None:
        """Read some tiles of a bag into existing memory, as `read_into` does.

        Args:
            index: Position of the bag.
            chosen: Ascending positions within the bag.
            out: `(chosen tiles, ...)`, contiguous.
        """
        rows = self.rows_of(index)[chosen]
        bounds = [0, *(np.flatnonzero(np.diff(rows) != 1) + 1).tolist(), len(rows)]
        for first, last in itertools.pairwise(bounds):
            self._read_range(slice(int(rows[first]), int(rows[last - 1]) + 1), out[first:last])

    def rows_of(self, index: int) -> NDArray[np.int64]:
        """Return the row numbers of the tiles of a bag, `(tiles,)`."""
        return np.concatenate([np.arange(where.start, where.stop) for where in self.ranges(index)])

    def _read_range(self, where: slice, out: np.ndarray) -> None:
        """Read consecutive tiles from the file."""
        if not hasattr(os, "preadv"):  # Windows
            out[...] = self.tiles[where]
            return
        view = out.data.cast("B")
        position = self._offset + where.start * (out.nbytes // len(out))
        while view:
            count = os.preadv(self._file, [view], position)
            if count == 0:
                raise ValueError(f"{self.path / 'tiles.npy'} ends too early; delete {self.path} and build it again")
            view, position = view[count:], position + count

    def read(self, index: int) -> np.ndarray:
        """Return a copy of the tiles of a bag in memory."""
        out = np.empty((int(self.num_tiles[index]), *self.tile_shape), self.tiles.dtype)
        self.read_into(index, out)
        return out

    def read_padded(self, indices: Sequence[int] | np.ndarray, out: np.ndarray) -> None:
        """Read the tiles of some bags into the rows of a batch, 0 on padding.

        Args:
            indices: Positions of the bags.
            out: `(bags, at least the tiles of the longest, ...)`, contiguous, in the dtype of the store.
        """
        for row, index in enumerate(indices):
            length = int(self.num_tiles[index])
            self.read_into(int(index), out[row, :length])
            out[row, length:] = 0

    def record(self) -> dict[str, Any]:
        """Return the description of the store for the provenance of a run; plain values."""
        description = self.description
        return {"store": str(self.path), "store_sha256": description["sha256"], "source": description["source"]}

    def content_digest(self) -> str:
        """Return a hash of tiles, tables and description, independent of where and when the store was written."""
        said = {name: value for name, value in self.description.items() if name not in _NO_CONTENT}
        if "parts" not in said:
            said["tables"] = [sha256_of_file(self.path / name) for name in TABLES]
        return sha256_of_values(said)

    def verify(self) -> None:
        """Verify the hash of `tiles.npy`, even if it was verified before.

        Raises:
            ValueError: If they differ.
        """
        if sha256_of_file(self.path / "tiles.npy") != self.array_sha256:
            raise ValueError(
                f"{self.path / 'tiles.npy'} was changed after it was written; delete it and build it again"
            )
