"""Input specification of a network: the shape of the bags it accepts."""

from dataclasses import dataclass
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray
from torch import nn

from milpath.models.checkpoint import Card
from milpath.sagemaker.endpoint.request_limits import BadRequestError, Limits

_MIN_TILE, _MAX_TILE = 16, 4096


class TileBag(NamedTuple):
    """Tiles of a bag, with their names and positions for the response.

    Attributes:
        tiles: uint8 or float `(tiles, height, width, channels)`, or float `(tiles, features)`.
        names: Name of each tile; empty if they have none.
        corners: Left and top edge of each tile in pixels of the slide image, `None` of a filler; empty if unknown.
        microns_per_pixel: Resolution of the tiles as the request states it; None if it does not.
    """

    tiles: NDArray[Any]
    names: tuple[str, ...] = ()
    corners: tuple[tuple[int, int] | None, ...] = ()
    microns_per_pixel: float | None = None


@dataclass(frozen=True)
class InputSpec:
    """Bags of tiles of some size, or of features of some width.

    Attributes:
        channels: Channels of a tile: 3, or 1 for digits; 0 for features.
        tile_size: Side of a tile in pixels; None if the encoder accepts any.
        num_features: Width of the features; None for tiles.
    """

    channels: int
    tile_size: int | None
    num_features: int | None

    @classmethod
    def of(cls, network: nn.Module, card: Card) -> "InputSpec":
        """Return the specification of the bags that a network was trained with."""
        encoder: Any = getattr(getattr(network, "tile_encoder", None), "network", network)  # the user's may have none
        if (num_features := getattr(encoder, "num_features", None)) is not None:
            return cls(0, None, int(num_features))
        first = next((module for module in encoder.modules() if isinstance(module, nn.Conv2d)), None)
        channels = getattr(encoder, "channels", None) or (3 if first is None else first.in_channels)
        tile_size = getattr(encoder, "tile_size", None) or card.tiling.get("tile_size")
        return cls(channels, 28 if channels == 1 else tile_size, None)

    def __str__(self) -> str:
        if self.num_features is not None:
            return f"(tiles, {self.num_features}) float"
        side = self.tile_size or "side"
        return f"(tiles, {side}, {side}, {self.channels}) uint8, or float in [0, 1]"

    def bags(self, array: NDArray[Any], limits: Limits) -> list[TileBag]:
        """Return the bag or bags in an array.

        Raises:
            BadRequestError: If the network does not accept them.
        """
        one = 2 if self.num_features is not None else 4
        if array.ndim not in (one, one + 1):
            raise BadRequestError(
                f"got an array of shape {array.shape}; expected one bag {self}, or several with a leading bag dimension"
            )
        bags = [TileBag(array)] if array.ndim == one else [TileBag(bag) for bag in array]
        for bag in bags:
            self.check(bag.tiles)
        self.bound(bags, limits)
        return bags

    def check(self, tiles: NDArray[Any]) -> None:
        """Refuse a bag that the network does not accept.

        Raises:
            BadRequestError: With what was expected and what was sent.
        """
        if 0 in tiles.shape:
            raise BadRequestError(f"a bag of shape {tiles.shape} is empty; send at least one tile")
        if not self._fits(tiles.shape[1:]):
            raise BadRequestError(f"got a bag of shape {tiles.shape}; expected {self}")
        if tiles.dtype == np.uint8:
            return
        if not np.isfinite(tiles).all():
            raise BadRequestError("a bag holds NaN or infinity; send finite numbers")
        if self.num_features is None and (tiles.min() < 0 or tiles.max() > 1):
            raise BadRequestError(
                f"float tiles must be in [0, 1], but are in [{tiles.min():.4g}, {tiles.max():.4g}]; "
                "divide by 255, or send uint8"
            )
        if np.abs(tiles).max() > np.finfo(np.float32).max:
            raise BadRequestError("a bag holds numbers outside the range of float32; send smaller ones")

    def bound(self, bags: list[TileBag], limits: Limits) -> None:
        """Refuse more tiles than a request may have.

        Raises:
            BadRequestError: With status 413.
        """
        count = sum(len(bag.tiles) for bag in bags)
        if count > limits.max_tiles:
            raise BadRequestError(f"got {count} tiles; a request may have at most {limits.max_tiles}", 413)
        size = sum(bag.tiles.size for bag in bags)
        if size > limits.max_decoded_bytes:
            raise BadRequestError(f"got {size} values; a request may have at most {limits.max_decoded_bytes}", 413)

    def _fits(self, shape: tuple[int, ...]) -> bool:
        """Return whether a tile of this shape can be encoded."""
        if self.num_features is not None:
            return shape == (self.num_features,)
        if self.tile_size is not None:
            return shape == (self.tile_size, self.tile_size, self.channels)
        height, width, channels = shape
        return channels == self.channels and all(_MIN_TILE <= side <= _MAX_TILE for side in (height, width))
