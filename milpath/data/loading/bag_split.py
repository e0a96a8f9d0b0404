"""The bags of one split, gathered into batches."""

from collections.abc import Sequence
from typing import Self

import numpy as np
import pandas as pd

from milpath.data.loading.bag import Bag, BagBatch, as_batch, collate_bags, empty_batch, fresh_buffer
from milpath.data.sources.features.feature_check import require_finite_bags
from milpath.data.splits.assign_splits import SPLITS
from milpath.data.splits.label_cells import label_array
from milpath.data.store.bag_store import BagStore


class BagSplit:
    """A subset of the bags of a store with their labels.

    Args:
        store: The store.
        indices: `(bags,)` positions in the store.
        labels: `(bags,)` class of each bag, or `(bags, columns)` numbers.
    """

    def __init__(self, store: BagStore, indices: np.ndarray, labels: np.ndarray) -> None:
        self.store = store
        self.indices = indices
        self.labels = labels
        self.bag_ids: list[str] = store.bags["bag_id"].iloc[indices].tolist()
        self.lengths = store.num_tiles[indices]

    @classmethod
    def of(cls, store: BagStore, table: pd.DataFrame, split: str) -> Self:
        """Return the bags of one split, from a table with `index`, `label` and `split`.

        Raises:
            ValueError: If the split is empty.
        """
        rows = table[table["split"] == split]
        if rows.empty:
            found = ", ".join(name for name in SPLITS if (table["split"] == name).any()) or "none"
            way_out = "check data.num_folds, data.val_fraction and data.splits"
            raise ValueError(f"the {split} split is empty: the data have {found}; {way_out}")
        return cls(store, rows["index"].to_numpy(), label_array(rows["label"]))

    def __len__(self) -> int:
        return len(self.indices)

    def __getitem__(self, position: int) -> Bag:
        """Return a bag; its tiles are a view of the memory map."""
        where = self._slice(position)
        tile_labels = None if self.store.tile_labels is None else self.store.tile_labels[where]
        label = self.labels[position]
        known = int(label) if label.ndim == 0 else tuple(label.tolist())
        return Bag(self.store.tiles[where], known, self.bag_ids[position], tile_labels)

    def gather(self, positions: Sequence[int] | np.ndarray, global_size: int, pin_memory: bool = False) -> BagBatch:
        """Return some bags as a batch, with tiles in the dtype of the store.

        Args:
            positions: Positions of the bags in the split; may be empty.
            global_size: Number of bags of the step over all processes.
            pin_memory: Use pinned memory for the tiles, for asynchronous transfer to a GPU.

        Raises:
            ValueError: If a feature is not finite, with the bag and the tile.
        """
        store = self.store
        if len(positions) == 0:
            return empty_batch(store.tile_shape, store.tiles.dtype, global_size, self._num_columns)
        lengths = self.lengths[positions].tolist()
        tiles = fresh_buffer((len(lengths), max(lengths), *store.tile_shape), store.tiles.dtype, pin_memory)
        store.read_padded(self.indices[positions], tiles)
        bags = [self[int(position)] for position in positions]
        require_finite_bags(tiles, lengths, [bag.bag_id for bag in bags], store.path)
        return as_batch(tiles, bags, lengths, global_size)

    def gather_rows(self, positions: Sequence[int] | np.ndarray, global_size: int) -> BagBatch:
        """Return some bags as a batch whose tiles are row numbers of `tiles.npy`, `(bags, tiles)` int64."""
        if len(positions) == 0:
            return empty_batch((), np.dtype(np.int64), global_size, self._num_columns)
        bags = [self[int(position)] for position in positions]
        slices = [self._slice(int(position)) for position in positions]
        rows = [np.arange(where.start, where.stop) for where in slices]
        return collate_bags([bag._replace(tiles=row) for bag, row in zip(bags, rows, strict=True)], global_size)

    @property
    def _num_columns(self) -> int | None:
        """Number of numbers of a label; `None` if labels are classes."""
        return None if self.labels.ndim == 1 else int(self.labels.shape[1])

    def _slice(self, position: int) -> slice:
        """Return the slice of a bag's tiles in the store."""
        return self.store.tile_slice(int(self.indices[position]))
