"""Bags, and padded batches of bags of different lengths."""

from collections.abc import Sequence
from typing import Any, NamedTuple

import numpy as np
import torch
from torch import Tensor


class Bag(NamedTuple):
    """One bag from a store.

    Attributes:
        tiles: `(tiles, height, width, channels)` uint8, or `(tiles, features)` float.
        label: Class index, or the numbers of a target without classes.
        bag_id: Name of the slide.
        tile_labels: `(tiles,)` int64, -1 if unknown; `None` if no tile of the store has a label.
    """

    tiles: np.ndarray
    label: int | tuple[float, ...]
    bag_id: str
    tile_labels: np.ndarray | None = None


class BagBatch(NamedTuple):
    """Bags padded to the same length.

    Attributes:
        tiles: `(bags, tiles, 3, height, width)` float in [0, 1] or `(bags, tiles, features)` on the device;
            `(bags, tiles, height, width, channels)` uint8 before. Padding is 0.
        mask: `(bags, tiles)` bool, True for real tiles.
        labels: `(bags,)` int64, or `(bags, columns)` float32 of a target without classes.
        tile_labels: `(bags, tiles)` int64, -1 if unknown and on padding.
        bag_ids: Name of each bag.
        global_size: Number of bags of all processes in this step: the loss of the step is the sum over bags divided by
            it. A process has no bag (zero rows) if a batch has fewer bags than there are processes.
        padded: Whether there is any padding; known on the host, so that no synchronisation is needed.
    """

    tiles: Tensor
    mask: Tensor
    labels: Tensor
    tile_labels: Tensor
    bag_ids: list[str]
    global_size: int
    padded: bool = True

    @property
    def network_mask(self) -> Tensor | None:
        """The mask for a network: `None` if all tiles are real, which avoids a synchronisation with the GPU.

        Example:
            >>> bags = [Bag(np.ones((2, 5), np.float32), label=0, bag_id=f"slide_{number}") for number in range(2)]
            >>> collate_bags(bags).network_mask is None
            True
        """
        return self.mask if self.padded else None


def collate_bags(bags: Sequence[Bag], global_size: int | None = None, pin_memory: bool = False) -> BagBatch:
    """Pad bags to the length of the longest.

    Args:
        bags: One or more bags.
        global_size: Number of bags of the step over all processes; `None` means these bags only.
        pin_memory: Use pinned memory for the tiles, for asynchronous transfer to a GPU.

    Returns:
        The batch, with tiles in the dtype of the store.

    Example:
        >>> short, long = (Bag(np.ones((n, 5), np.float32), label=n % 2, bag_id=f"slide_{n}") for n in (2, 3))
        >>> batch = collate_bags([short, long])
        >>> batch.mask.tolist(), batch.labels.tolist()
        ([[True, True, False], [True, True, True]], [0, 1])
    """
    lengths = [len(bag.tiles) for bag in bags]
    shape = (len(bags), max(lengths), *bags[0].tiles.shape[1:])
    tiles = fresh_buffer(shape, bags[0].tiles.dtype, pin_memory)
    for row, (bag, length) in enumerate(zip(bags, lengths, strict=True)):
        tiles[row, :length] = bag.tiles
        tiles[row, length:] = 0
    labels = np.array([bag.label for bag in bags], np.float32 if isinstance(bags[0].label, tuple) else np.int64)
    return as_batch(
        tiles,
        lengths,
        labels,
        [bag.bag_id for bag in bags],
        len(bags) if global_size is None else global_size,
        [bag.tile_labels for bag in bags],
    )


def as_batch(
    tiles: np.ndarray,
    lengths: Sequence[int],
    labels: np.ndarray,
    bag_ids: list[str],
    global_size: int,
    tile_labels: Sequence[np.ndarray | None] = (),
) -> BagBatch:
    """Return the batch of tiles that are already padded.

    Args:
        tiles: `(bags, tiles, ...)`, 0 on padding.
        lengths: Number of tiles of each bag.
        labels: `(bags,)` int64, or `(bags, columns)` float32.
        bag_ids: Name of each bag.
        global_size: Number of bags of the step over all processes.
        tile_labels: Labels of the tiles of each bag, as `Bag` has them; empty if no tile has one.
    """
    longest = tiles.shape[1]
    of_tiles = np.full((len(tiles), longest), -1, np.int64)
    for row, known in enumerate(tile_labels):
        if known is not None:
            of_tiles[row, : len(known)] = known
    return BagBatch(
        tiles=torch.from_numpy(tiles),
        mask=torch.from_numpy(np.arange(longest) < np.array(lengths)[:, None]),
        labels=torch.from_numpy(labels),
        tile_labels=torch.from_numpy(of_tiles),
        bag_ids=bag_ids,
        global_size=global_size,
        padded=min(lengths) < longest,
    )


def empty_batch(
    tile_shape: Sequence[int], dtype: np.dtype[Any], global_size: int, num_columns: int | None = None
) -> BagBatch:
    """Return a batch without bags, for a process that has none in a step.

    Args:
        tile_shape: Shape of one tile in the store.
        dtype: Dtype of the tiles in the store.
        global_size: Number of bags of the step over all processes.
        num_columns: Number of numbers of a label; `None` if labels are classes.

    Example:
        >>> empty_batch((8, 8, 3), np.dtype(np.uint8), global_size=1).tiles.shape
        torch.Size([0, 1, 8, 8, 3])
    """
    return BagBatch(
        tiles=torch.from_numpy(np.empty((0, 1, *tile_shape), dtype)),
        mask=torch.ones(0, 1, dtype=torch.bool),
        labels=torch.zeros(0, dtype=torch.int64) if num_columns is None else torch.zeros(0, num_columns),
        tile_labels=torch.full((0, 1), -1, dtype=torch.int64),
        bag_ids=[],
        global_size=global_size,
        padded=False,
    )


def fresh_buffer(shape: tuple[int, ...], dtype: np.dtype[Any], pin_memory: bool) -> np.ndarray:
    """Return uninitialised memory."""
    if pin_memory:
        buffer = torch.empty(shape, dtype=torch.from_numpy(np.empty(0, dtype)).dtype, pin_memory=True)
        return np.asarray(buffer.numpy())
    # Faster than torch.empty on a CPU: numpy requests huge pages, which halves the time of a fresh buffer.
    return np.empty(shape, dtype)
