"""Prediction without labels: bags of a store, a batch at a time."""

from collections.abc import Iterable, Iterator
from typing import NamedTuple

import numpy as np
import torch
from numpy.typing import NDArray
from torch.nn import Module

from milpath.data.bag import Bag, collate_bags
from milpath.data.bag_store import BagStore
from milpath.models.task import class_probabilities


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
    batch_size: int = 16,
    device: str | torch.device = "cpu",
) -> Iterator[BagPrediction]:
    """Predict bags one batch after the other; memory holds one batch whatever the size of the store.

    Args:
        network: A network in evaluation mode.
        store: The bags.
        task: "binary", "nominal" or "ordinal".
        temperature: Divides the logits; > 0.
        indices: Bags to predict; None for all.
        batch_size: Bags at a time.
        device: Where the network runs.
    """
    network = network.to(device)
    ids = store.bags["bag_id"].tolist()
    waiting = list(range(len(store)) if indices is None else indices)
    for start in range(0, len(waiting), batch_size):
        chosen = waiting[start : start + batch_size]
        batch = collate_bags([Bag(store.read(index), 0, ids[index]) for index in chosen])
        tiles = batch.tiles.to(device)
        tiles = tiles.permute(0, 1, 4, 2, 3).float().div_(255) if tiles.ndim == 5 else tiles.float()
        with torch.inference_mode():
            output = network(tiles, batch.mask.to(device) if batch.padded else None)
            probabilities = class_probabilities(output.logits.float(), task, temperature).cpu().numpy()
            attention = output.attention.float().cpu().numpy()
        for row, index in enumerate(chosen):
            yield BagPrediction(index, ids[index], probabilities[row], attention[row, : store.num_tiles[index]])
