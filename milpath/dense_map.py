"""Attention over all tissue of a slide: a sliding grid of tiles that overlap, all of them one bag."""

from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
import torch
from numpy.typing import NDArray
from torch.nn import Module

from milpath.models.network import MILNetwork
from milpath.slides.cutting import choose_places, cut_places
from milpath.slides.options import TileOptions
from milpath.slides.reader import open_slide
from milpath.slides.view import view_slide

TILES_AT_A_TIME = 64


@dataclass(frozen=True)
class DenseMap:
    """The weight of every tile of tissue.

    Attributes:
        attention: `(tiles,)`, sums to 1.
        x: `(tiles,)` left edges in pixels of the resolution of the tiles.
        y: `(tiles,)` top edges.
        downsample: Pixels of level 0 per such pixel.
    """

    attention: NDArray[np.float32]
    x: NDArray[np.float64]
    y: NDArray[np.float64]
    downsample: float


def map_slide(
    network: Module, path: Path, options: TileOptions, overlap: float, device: str | torch.device = "cpu"
) -> DenseMap:
    """Return the attention of a network on all tissue of a slide.

    Tiles are encoded a few at a time: memory holds the embeddings of the slide, never all its tiles.

    Args:
        network: In evaluation mode.
        path: The slide.
        options: How the network's training slides became tiles; resolution and size of the tiles are kept.
        overlap: Part of a tile that its neighbour shares, in [0, 1).
        device: Where the network runs.

    Raises:
        ValueError: If the slide shows no tissue, or the overlap is none.
    """
    assert isinstance(network, MILNetwork), type(network)
    if not 0 <= overlap < 1:
        raise ValueError(
            f"dense={overlap} must be at least 0 and below 1: the part of a tile that its neighbour shares"
        )
    options = replace(
        options, method="tissue", num_tiles=None, overlap=min(round(overlap * options.tile_size), options.tile_size - 1)
    )
    with open_slide(path) as slide, torch.inference_mode():
        view = view_slide(slide, options)
        places = choose_places(view, options)
        embeddings = torch.empty(0)
        for positions, tiles in cut_places(view, places, options):
            for start in range(0, len(positions), TILES_AT_A_TIME):
                part = slice(start, start + TILES_AT_A_TIME)
                pixels = torch.from_numpy(np.ascontiguousarray(tiles[part])).to(device)
                encoded = network.encode(pixels.permute(0, 3, 1, 2).float().div_(255)[None])[0]
                if not len(embeddings):
                    embeddings = encoded.new_empty(len(places.x), encoded.shape[1])
                embeddings[torch.from_numpy(positions[part]).to(embeddings.device)] = encoded
        attention = network.aggregate(embeddings[None]).attention[0].float().cpu().numpy()
    return DenseMap(attention, places.x.astype(np.float64), places.y.astype(np.float64), view.downsample)
