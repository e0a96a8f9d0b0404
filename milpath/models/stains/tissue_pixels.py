"""The pixels that the stains of a bag are estimated from: a bounded sample of its tiles, stained tissue only."""

import math

import torch
from torch import Tensor

from milpath.records.stain_sample import MOST_TILES, sampled_lines

# Optical density (natural logarithm, Euclidean norm of the three channels) below which a pixel is glass: 0.15 in decimal
# logarithms, the value of Macenko et al. 2009.
LEAST_DENSITY = 0.15 * math.log(10)
# A pixel whose brightest channel is below this is padding, a fold or ink.
_DARKEST = 0.15
# A bag with fewer stained pixels in its sample says nothing about its stains.
FEWEST_PIXELS = 100


def tissue_pixels(tiles: Tensor, mask: Tensor | None) -> tuple[Tensor, Tensor]:
    """Return a sample of the pixels of each bag and which of them are stained tissue.

    Args:
        tiles: `(bags, tiles, 3, height, width)` in [0, 1].
        mask: `(bags, tiles)`, True for a real tile; `None` if all are real.

    Returns:
        Pixels `(bags, pixels, 3)` in float32, and bool `(bags, pixels)`. Only the bag itself decides which of its pixels
        are taken.
    """
    num_bags, longest = tiles.shape[:2]
    real = torch.ones((num_bags, longest), dtype=torch.bool, device=tiles.device) if mask is None else mask
    count = real.sum(1, keepdim=True)
    most = min(longest, MOST_TILES)
    steps = torch.arange(most, device=tiles.device)[None]
    chosen = torch.where(count > most, steps * count // most, steps)
    # Real tiles first, in their order.
    order = (~real).to(torch.uint8).argsort(dim=1, stable=True)
    positions = order.gather(1, chosen.clamp(max=longest - 1))
    rows, columns = (torch.tensor(sampled_lines(side), device=tiles.device) for side in tiles.shape[-2:])
    bags = torch.arange(num_bags, device=tiles.device)[:, None]
    grid = tiles[..., rows, :][..., columns][bags, positions]
    pixels = grid.permute(0, 1, 3, 4, 2).flatten(1, 3).float()
    sampled = (steps < count).repeat_interleave(len(rows) * len(columns), dim=1)
    tissue = (optical_density(pixels).norm(dim=2) >= LEAST_DENSITY) & (pixels.amax(2) >= _DARKEST)
    return pixels, sampled & tissue


def optical_density(values: Tensor) -> Tensor:
    """Return `-ln(I / I0)` of values in [0, 1], where white is the light I0: 0 for white, at most `ln 255`."""
    return -values.clamp(1 / 255, 1).log()


def percentiles(values: Tensor, chosen: Tensor, percents: tuple[float, ...]) -> Tensor:
    """Return percentiles of the chosen values of each row, interpolated linearly.

    Args:
        values: `(rows, values)`.
        chosen: bool of the same shape; a row without any gets 0.
        percents: From 0 to 100.

    Returns:
        `(rows, percents)`.
    """
    ordered = values.masked_fill(~chosen, torch.inf).sort(dim=1).values
    last = (chosen.sum(1, keepdim=True) - 1).clamp(min=0)
    places = torch.tensor(percents, dtype=torch.float64, device=values.device)[None] / 100 * last
    below = places.floor().long()
    low, high = ordered.gather(1, below), ordered.gather(1, torch.minimum(below + 1, last))
    found = low + (high - low) * (places - below).to(low.dtype)
    return found.nan_to_num(0, 0, 0)
