"""The bags of one split, gathered into batches."""

from collections.abc import Sequence
from typing import Self

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from milpath.data.loading.bag import Bag, BagBatch, as_batch, collate_bags, empty_batch, fresh_buffer
from milpath.data.loading.tile_sample import TileSample
from milpath.data.sources.features.feature_check import require_finite_bags
from milpath.data.splits.assign_splits import SPLITS
from milpath.data.splits.label_cells import label_array
from milpath.data.store.bag_store import BagStore, TileRows

_NO_TILES = np.empty(0)
# Distinguishes the choice of a copy from other draws with the seed of a batch.
_STREAM = 3


class BagSplit:
    """A subset of the bags of a store with their labels.

    Args:
        store: The store.
        indices: `(bags,)` positions in the store.
        labels: `(bags,)` class of each bag, or `(bags, columns)` numbers.
        copies: Other stores of the same bags, such as the features of augmented tiles, of which `gather` may take one.
    """

    def __init__(
        self, store: BagStore, indices: np.ndarray, labels: np.ndarray, copies: Sequence[BagStore] = ()
    ) -> None:
        self.store = store
        self.copies = tuple(copies)
        self.indices = indices
        self.labels = labels
        self.bag_ids: list[str] = store.bags["bag_id"].iloc[indices].tolist()
        self.lengths = store.num_tiles[indices]

    @classmethod
    def of(cls, store: BagStore, table: pd.DataFrame, split: str | None, copies: Sequence[BagStore] = ()) -> Self:
        """Return the bags of one split, from a table with `index`, `label` and `split`; `None` for all bags.

        Raises:
            ValueError: If the split is empty.
        """
        if split is None:
            return cls(store, table["index"].to_numpy(), label_array(table["label"]))
        rows = table[table["split"] == split]
        if rows.empty:
            found = ", ".join(name for name in SPLITS if (table["split"] == name).any()) or "none"
            way_out = "check data.num_folds, data.val_fraction and data.splits"
            raise ValueError(f"the {split} split is empty: the data have {found}; {way_out}")
        return cls(store, rows["index"].to_numpy(), label_array(rows["label"]), copies)

    def __len__(self) -> int:
        return len(self.indices)

    def __getitem__(self, position: int) -> Bag:
        """Return a bag; its tiles are a view of the memory map, and a copy of it for a bag of several slides."""
        where = self.store.tile_slice(int(self.indices[position]))
        return self._known(position, where)._replace(tiles=self.store.tiles[where])

    def gather(
        self,
        positions: Sequence[int] | np.ndarray,
        global_size: int,
        pin_memory: bool = False,
        sample: TileSample | None = None,
        seed: int = 0,
    ) -> BagBatch:
        """Return some bags as a batch, with tiles in the dtype of the store.

        Args:
            positions: Positions of the bags in the split; may be empty.
            global_size: Number of bags of the step over all processes.
            pin_memory: Use pinned memory for the tiles, for asynchronous transfer to a GPU.
            sample: Which tiles of long bags are used; `None` for all.
            seed: Seed of the choice between the store and its copies, for each bag; not used without copies.

        Raises:
            ValueError: If a feature is not finite, with the bag and the tile.
        """
        store = self.store
        if len(positions) == 0:
            return empty_batch(store.tile_shape, store.tiles.dtype, global_size, self._num_columns)
        chosen = [self._chosen(int(position), sample) for position in positions]
        lengths: list[int] = [
            whole if own is None else len(own)
            for whole, own in zip(self.lengths[positions].tolist(), chosen, strict=True)
        ]
        tiles = fresh_buffer((len(lengths), max(lengths), *store.tile_shape), store.tiles.dtype, pin_memory)
        for out, length, index, own, source in zip(
            tiles, lengths, self.indices[positions].tolist(), chosen, self._sources(len(positions), seed), strict=True
        ):
            if own is None:
                source.read_into(index, out[:length])
            else:
                source.read_some(index, own, out[:length])
            out[length:] = 0
        bag_ids = [self.bag_ids[position] for position in positions]
        require_finite_bags(tiles, lengths, bag_ids, store.path)
        return as_batch(
            tiles, lengths, self._labels_of(positions), bag_ids, global_size, self._labels_of_tiles(positions, chosen)
        )

    def gather_rows(
        self, positions: Sequence[int] | np.ndarray, global_size: int, sample: TileSample | None = None
    ) -> BagBatch:
        """Return some bags as a batch whose tiles are row numbers of `tiles.npy`, `(bags, tiles)` int64."""
        if len(positions) == 0:
            return empty_batch((), np.dtype(np.int64), global_size, self._num_columns)
        rows = [self._rows(position, self._chosen(int(position), sample)) for position in positions]
        bags = [
            self._known(int(position), row)._replace(tiles=row) for position, row in zip(positions, rows, strict=True)
        ]
        return collate_bags(bags, global_size)

    @property
    def _num_columns(self) -> int | None:
        """Number of numbers of a label; `None` if labels are classes."""
        return None if self.labels.ndim == 1 else int(self.labels.shape[1])

    def _sources(self, count: int, seed: int) -> list[BagStore]:
        """Return the store that each of some bags is read from."""
        stores = [self.store, *self.copies]
        if len(stores) == 1:
            return stores * count
        return [stores[number] for number in np.random.default_rng([seed, _STREAM]).integers(0, len(stores), count)]

    def _chosen(self, position: int, sample: TileSample | None) -> NDArray[np.int64] | None:
        """Return the tiles of a bag that are used; `None` for all."""
        return None if sample is None else sample.chosen(position, int(self.lengths[position]))

    def _rows(self, position: int, chosen: NDArray[np.int64] | None) -> NDArray[np.int64]:
        """Return the row numbers of the tiles of a bag that are used."""
        rows = self.store.rows_of(int(self.indices[position]))
        return rows if chosen is None else rows[chosen]

    def _labels_of(self, positions: Sequence[int] | np.ndarray) -> np.ndarray:
        """Return the labels of some bags as a batch has them."""
        return self.labels[positions].astype(np.int64 if self.labels.ndim == 1 else np.float32)

    def _labels_of_tiles(
        self, positions: Sequence[int] | np.ndarray, chosen: Sequence[NDArray[np.int64] | None]
    ) -> list[NDArray[np.int64] | None]:
        """Return the labels of the tiles of some bags that are used; empty if no tile of the store has one."""
        if self.store.labels_of_tiles(slice(0)) is None:
            return []
        rows = [self._rows(int(position), own) for position, own in zip(positions, chosen, strict=True)]
        return [self.store.labels_of_tiles(row) for row in rows]

    def _known(self, position: int, rows: TileRows | None) -> Bag:
        """Return what is known of a bag, without its tiles; its rows matter if tiles have labels."""
        tile_labels = None if rows is None else self.store.labels_of_tiles(rows)
        label = self.labels[position]
        known = int(label) if label.ndim == 0 else tuple(label.tolist())
        return Bag(_NO_TILES, known, self.bag_ids[position], tile_labels)
