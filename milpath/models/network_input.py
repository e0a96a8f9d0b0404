"""The input of a network: tiles or features, and the conversion of stored ones."""

import torch
from torch import Tensor, nn


def to_network_input(tiles: Tensor) -> Tensor:
    """Return tiles as float32 in the layout that networks expect.

    Args:
        tiles: Images `([bags,] tiles, height, width, channels)`, uint8 in 0..255 or floating in [0, 1], or features
            `([bags,] tiles, features)`.

    Returns:
        Images `([bags,] tiles, channels, height, width)` in [0, 1], or features unchanged.

    Example:
        >>> to_network_input(torch.full((2, 8, 8, 3), 255, dtype=torch.uint8)).shape
        torch.Size([2, 3, 8, 8])
    """
    if tiles.ndim < 4:
        return tiles.float()
    values = tiles.movedim(-1, -3).float()
    return values.div_(255) if tiles.dtype == torch.uint8 else values


def takes(network: nn.Module) -> str | None:
    """Return whether a network takes "tiles" or "features"; `None` if the user's own does not say it."""
    found: str | None = getattr(getattr(network, "tile_encoder", network), "takes", None)
    return found
