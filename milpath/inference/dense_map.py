"""Attention over all tissue of a slide: a sliding grid of tiles that overlap, all of them one bag."""

from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
import torch
from numpy.typing import NDArray
from torch.nn import Module

from milpath.models.network import MILNetwork
from milpath.models.network_input import to_network_input
from milpath.slides.cut_slide import choose_places, cut_places
from milpath.slides.readers.open_slide import open_slide
from milpath.slides.slide_view import view_slide
from milpath.slides.tiling_options import TileOptions

TILES_AT_A_TIME = 64


@dataclass(frozen=True)
class DenseMap:
    """The weight of every tile of tissue.

    Attributes:
        attention: `(tiles,)`, sums to 1.
        x: `(tiles,)` left edges in pixels of the resolution of the tiles.
        y: `(tiles,)` top edges.
        tile_size: Side of a tile in the same pixels.
        downsample: Pixels of level 0 per such pixel.
    """

    attention: NDArray[np.float32]
    x: NDArray[np.float64]
    y: NDArray[np.float64]
    tile_size: int
    downsample: float


class DenseMapper:
    """Map slides with one network.

    Tiles are encoded a few at a time: memory holds the embeddings of a slide, never all its tiles.

    Args:
        network: In evaluation mode.
        options: How the network's training slides became tiles; resolution and size of the tiles are kept.
        overlap: Part of a tile that its neighbour shares, in [0, 1).
        device: Where the network runs.

    Raises:
        ValueError: If the overlap is out of range, or the network has not the two halves of a `MILNetwork`.
    """

    def __init__(
        self, network: Module, options: TileOptions, overlap: float, device: str | torch.device = "cpu"
    ) -> None:
        if not isinstance(network, MILNetwork):
            raise ValueError(
                f"dense={overlap} needs a network that encodes tiles and then aggregates the bag; {type(network).__name__} "
                "is not a milpath.models.network.MILNetwork; set dense=null"
            )
        if not 0 <= overlap < 1:
            raise ValueError(
                f"dense={overlap} must be at least 0 and below 1: the part of a tile that its neighbour shares"
            )
        pixels = min(round(overlap * options.tile_size), options.tile_size - 1)
        self.network = network
        self.options = replace(options, method="tissue", num_tiles=None, overlap=pixels)
        self.device = device

    def __call__(self, path: Path) -> DenseMap:
        """Return the attention on all tissue of a slide.

        Raises:
            ValueError: If it cannot be read or shows no tissue.
        """
        network = self.network.to(self.device)
        with open_slide(path) as slide, torch.inference_mode():
            view = view_slide(slide, self.options)
            places = choose_places(view, self.options)
            embeddings = torch.empty(0)
            for positions, tiles in cut_places(view, places, self.options):
                for start in range(0, len(positions), TILES_AT_A_TIME):
                    part = slice(start, start + TILES_AT_A_TIME)
                    pixels = torch.from_numpy(np.ascontiguousarray(tiles[part])).to(self.device)
                    encoded = network.encode(to_network_input(pixels)[None])[0]
                    if not len(embeddings):
                        embeddings = encoded.new_empty(len(places.x), encoded.shape[1])
                    embeddings[torch.from_numpy(positions[part]).to(embeddings.device)] = encoded
            attention = network.aggregate(embeddings[None]).attention[0].float().cpu().numpy()
        x, y = places.x.astype(np.float64), places.y.astype(np.float64)
        return DenseMap(attention, x, y, self.options.tile_size, view.downsample)
