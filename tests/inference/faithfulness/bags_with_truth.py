"""Bags with one tile that decides, and networks of which it is known whether their attention points at it."""

from pathlib import Path

import numpy as np
import torch
from torch import Tensor, nn

from milpath.data.store.bag_store import BagStore
from milpath.data.store.bag_store_writer import BagStoreWriter
from milpath.models import MILOutput
from milpath.models.checkpoint import Card
from milpath.models.pooling import full_mask, masked_softmax

NUM_TILES = 20
CARD = Card({}, ("benign", "malignant"), "binary")


def write_planted(folder: Path, num_bags: int = 30, num_features: int = 6) -> BagStore:
    """Write bags whose first feature is 1 in one tile and 0 in the others; the second feature is noise."""
    draw = np.random.default_rng(0)
    with BagStoreWriter(folder) as writer:
        for number in range(num_bags):
            tiles = draw.random((NUM_TILES, num_features), np.float32)
            tiles[:, 0] = 0
            labels = np.zeros(NUM_TILES, np.int64)
            labels[draw.integers(NUM_TILES)] = 1
            tiles[labels == 1, 0] = 1
            writer.add(f"bag_{number}", tiles, {"label": 1, "patient": f"P{number // 2}"}, {"tile_label": labels})
    return BagStore.open(folder)


class MarkerNetwork(nn.Module):
    """Call a bag malignant if one of its tiles has the marker; attend to the tiles by a feature of choice."""

    takes = "features"

    def __init__(self, attended: int = 0, sharpness: float = 5.0) -> None:
        super().__init__()
        self.attended, self.sharpness = attended, sharpness

    def forward(self, tiles: Tensor, mask: Tensor | None = None) -> MILOutput:
        mask = full_mask(tiles, mask)
        marker = tiles[..., 0].masked_fill(~mask, -torch.inf).amax(1)
        weights = masked_softmax(self.sharpness * tiles[..., self.attended], mask)
        return MILOutput((8 * marker - 4)[:, None], weights)
