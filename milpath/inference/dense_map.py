"""Dense attention map over all tissue of a slide, from a grid of overlapping tiles as one bag."""

from contextlib import AbstractContextManager, nullcontext
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
import torch
from numpy.typing import NDArray
from torch.nn import Module

from milpath.models.network import MILNetwork
from milpath.models.network_input import to_network_input
from milpath.models.stains import sampled_tiles
from milpath.slides.cut_slide import choose_places, cut_places
from milpath.slides.readers.open_slide import open_slide
from milpath.slides.readers.slide import is_plausible
from milpath.slides.slide_view import SlideView, view_slide
from milpath.slides.tile_positions import TilePositions, read_places
from milpath.slides.tiling_options import TileOptions

TILES_AT_A_TIME = 64


@dataclass(frozen=True)
class DenseMap:
    """The attention weights of all tissue tiles of a slide.

    Attributes:
        attention: `(tiles,)`, sums to 1.
        x0: `(tiles,)` left edges in pixels of level 0.
        y0: `(tiles,)` top edges.
        size0: Side of a tile in the same pixels.
    """

    attention: NDArray[np.float32]
    x0: NDArray[np.float64]
    y0: NDArray[np.float64]
    size0: float


class DenseMapper:
    """Compute dense maps of slides with one network.

    Tiles are encoded in small batches: memory holds the embeddings of a slide, never all of its tiles.

    Args:
        network: A network in evaluation mode.
        options: How the network's training slides were cut; resolution and size of the tiles are kept.
        overlap: Fraction of a tile that overlaps with its neighbour, in [0, 1).
        device: Device of the network.

    Raises:
        ValueError: If the overlap is not in [0, 1), or the network is not a `MILNetwork`.
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
                f"dense={overlap} must be at least 0 and below 1: the fraction of a tile that overlaps with its neighbour"
            )
        pixels = min(round(overlap * options.tile_size), options.tile_size - 1)
        self.network = network
        self.options = replace(options, method="tissue", num_tiles=None, overlap=pixels, background="white")
        self.device = device

    def _stating(self, microns: float | None) -> TileOptions:
        """Return the options for a slide whose resolution is known; an earlier version cut slides of any."""
        if microns is None or is_plausible(microns):
            return replace(self.options, slide_microns_per_pixel=microns)
        return replace(self.options, slide_microns_per_pixel=None, assumed_microns_per_pixel=microns)

    def __call__(self, path: Path, slide_microns_per_pixel: float | None = None) -> DenseMap:
        """Return the dense map of a slide.

        Args:
            path: Its file.
            slide_microns_per_pixel: Resolution of its level 0 at which its tiles were cut; `None` takes that of the file.

        Raises:
            ValueError: If it cannot be read or shows no tissue.
        """
        network = self.network.to(self.device)
        with open_slide(path) as slide, torch.inference_mode():
            options = self._stating(slide_microns_per_pixel)
            view = view_slide(slide, options)
            places = choose_places(view, self.options)
            embeddings = torch.empty(0)
            with self._stains_of(view, places):
                for positions, tiles in cut_places(view, places, self.options):
                    for start in range(0, len(positions), TILES_AT_A_TIME):
                        part = slice(start, start + TILES_AT_A_TIME)
                        encoded = network.encode(self._input(tiles[part])[None])[0]
                        if not len(embeddings):
                            embeddings = encoded.new_empty(len(places.x), encoded.shape[1])
                        embeddings[torch.from_numpy(positions[part]).to(embeddings.device)] = encoded
            attention = network.aggregate(embeddings[None]).attention[0].float().cpu().numpy()
        x0, y0 = (edges.astype(np.float64) for edges in view.to_level0(places.x, places.y))
        return DenseMap(attention, x0, y0, self.options.tile_size * view.downsample)

    def _stains_of(self, view: SlideView, places: TilePositions) -> AbstractContextManager[None]:
        """Return the context in which tiles are parts of the slide: its stains are those of all its tiles."""
        encoder = self.network.tile_encoder
        if encoder.stains is None:
            return nullcontext()
        chosen = sampled_tiles(len(places.x))
        sample = TilePositions(places.x[chosen], places.y[chosen], places.number[chosen])
        tiles = np.empty((len(sample.x), self.options.tile_size, self.options.tile_size, 3), np.uint8)
        for positions, pixels in read_places(view, sample, self.options.tile_size):
            tiles[positions] = pixels
        return encoder.parts_of_bag(self._input(tiles))

    def _input(self, tiles: NDArray[np.uint8]) -> torch.Tensor:
        """Return tiles `(tiles, 3, height, width)` on the device of the network."""
        return to_network_input(torch.from_numpy(np.ascontiguousarray(tiles)).to(self.device))
