"""Prediction without labels: bags of a store, a batch at a time."""

import math
from collections.abc import Iterable, Iterator, Sequence
from typing import NamedTuple

import numpy as np
import torch
from numpy.typing import NDArray
from torch.nn import Module

from milpath.data.bag import fresh_buffer
from milpath.data.bag_store import BagStore
from milpath.models.task import class_probabilities

# Tiles of a batch as float32: enough to keep a processor busy, little enough for its caches and for long bags.
_BATCH_BYTES = 32 << 20
_MAX_BATCH_SIZE = 256


class BagPrediction(NamedTuple):
    """What a network says of a bag.

    Attributes:
        position: Position of the bag in the store.
        bag_id: Its name.
        probabilities: `(classes,)`, sums to 1.
        attention: `(tiles,)`, sums to 1.
    """

    position: int
    bag_id: str
    probabilities: NDArray[np.float32]
    attention: NDArray[np.float32]


def predict_bags(
    network: Module,
    store: BagStore,
    task: str,
    *,
    temperature: float = 1.0,
    indices: Iterable[int] | None = None,
    batch_size: int | None = None,
    device: str | torch.device = "cpu",
) -> Iterator[BagPrediction]:
    """Predict bags one batch after the other; memory holds one batch whatever the size of the store.

    Args:
        network: A network in evaluation mode.
        store: The bags.
        task: "binary", "nominal" or "ordinal".
        temperature: Divides the logits; > 0.
        indices: Bags to predict; None for all.
        batch_size: Bags at a time; None for as many as make 32 MB of tiles.
        device: Where the network runs.
    """
    network = network.to(device)
    ids = store.bags["bag_id"].tolist()
    for chosen in _batches(store, list(range(len(store)) if indices is None else indices), batch_size):
        lengths = store.num_tiles[chosen]
        buffer = fresh_buffer((len(chosen), int(lengths.max()), *store.tile_shape), store.tiles.dtype, pin_memory=False)
        store.read_padded(chosen, buffer)
        tiles = torch.from_numpy(buffer).to(device)
        tiles = tiles.permute(0, 1, 4, 2, 3).float().div_(255) if tiles.ndim == 5 else tiles.float()
        mask = torch.arange(tiles.shape[1])[None, :] < torch.from_numpy(lengths)[:, None]
        with torch.inference_mode():
            output = network(tiles, None if mask.all() else mask.to(device))
            probabilities = class_probabilities(output.logits.float(), task, temperature).cpu().numpy()
            attention = output.attention.float().cpu().numpy()
        for row, index in enumerate(chosen):
            yield BagPrediction(index, ids[index], probabilities[row], attention[row, : store.num_tiles[index]])


def _batches(store: BagStore, waiting: Sequence[int], batch_size: int | None) -> Iterator[list[int]]:
    """Split bags into batches, in their order; padded to the longest of them, a batch stays within the bounds."""
    tile_bytes = 4 * math.prod(store.tile_shape)
    chosen: list[int] = []
    longest = 0
    for index in waiting:
        longest = max(longest, int(store.num_tiles[index]))
        full = len(chosen) == (batch_size or _MAX_BATCH_SIZE)
        if full or (batch_size is None and chosen and (len(chosen) + 1) * longest * tile_bytes > _BATCH_BYTES):
            yield chosen
            chosen, longest = [], int(store.num_tiles[index])
        chosen.append(index)
    if chosen:
        yield chosen
