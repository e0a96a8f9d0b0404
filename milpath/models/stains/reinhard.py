"""Normalisation of stains after Reinhard: mean and standard deviation of each channel of CIELAB."""

from collections.abc import Mapping
from typing import Any

import torch
from torch import Tensor

from milpath.models.stains.plain_numbers import require_numbers
from milpath.models.stains.tissue_pixels import FEWEST_PIXELS, LEAST_DENSITY, optical_density

# Linear sRGB to XYZ for D65 and an observer of 2 degrees, divided by the white point.
_TO_XYZ = torch.tensor(
    [[0.412453, 0.357580, 0.180423], [0.212671, 0.715160, 0.072169], [0.019334, 0.119193, 0.950227]],
    dtype=torch.float64,
) / torch.tensor([[0.95047], [1.0], [1.08883]], dtype=torch.float64)
_FROM_XYZ = torch.linalg.inv(_TO_XYZ)
# A channel that varies less than this is that of a grey picture.
_LEAST_STD = 1.0


class Reinhard:
    """`L' = (L - mean) / std * std' + mean'` for each channel of CIELAB (D65); the statistics are those of tissue.

    A pixel paler than tissue is moved by the share of its density in that of the palest tissue, so that white stays white.

    References:
        Reinhard et al. Color transfer between images. IEEE Computer Graphics and Applications 2001; with CIELAB instead of
        their l-alpha-beta, as is common for stains.
    """

    num_values = 6

    def statistics(self, pixels: Tensor, tissue: Tensor) -> tuple[Tensor, Tensor]:
        """Return mean and standard deviation `(bags, 6)`, and bool `(bags,)`: whether the bag has enough tissue.

        Args:
            pixels: `(bags, pixels, 3)` in [0, 1].
            tissue: bool `(bags, pixels)`.
        """
        lab = to_lab(pixels).double()
        weights = tissue.double()[..., None]
        count = weights.sum(1).clamp(min=1)
        mean = (lab * weights).sum(1) / count
        std = (((lab - mean[:, None]) ** 2 * weights).sum(1) / count).sqrt()
        sound = (tissue.sum(1) >= FEWEST_PIXELS) & (std >= _LEAST_STD).all(1)
        return torch.cat([mean, std], dim=1), sound

    def transform(self, statistics: Tensor, target: Tensor) -> tuple[Tensor, Tensor]:
        """Return factors and shifts `(bags, 6)` of the channels of bags, and bool `(bags,)`: whether they fit."""
        mean, std = statistics[:, :3], statistics[:, 3:]
        scale = target[3:].double() / std.clamp(min=_LEAST_STD)
        shift = target[:3].double() - scale * mean
        return torch.cat([scale, shift], dim=1).float(), torch.ones_like(mean[:, 0], dtype=torch.bool)

    def apply(self, tiles: Tensor, values: Tensor) -> Tensor:
        """Return tiles `(tiles, 3, height, width)` with the values of their bags, `(tiles, 6)`."""
        colours = tiles.permute(0, 2, 3, 1)
        scale, shift = values[:, None, None, :3], values[:, None, None, 3:]
        moved = from_lab(to_lab(colours) * scale + shift)
        share = (optical_density(colours).norm(dim=3, keepdim=True) / LEAST_DENSITY).clamp(max=1)
        return torch.lerp(colours, moved, share).permute(0, 3, 1, 2)

    def target_of(self, statistics: Tensor) -> dict[str, list[float]]:
        """Return the median over bags as plain values, rounded so that every machine finds the same."""
        median = [round(value, 4) for value in statistics.double().cpu().quantile(0.5, dim=0).tolist()]
        return {"mean": median[:3], "std": median[3:]}

    def tensor_of(self, target: Mapping[str, Any]) -> Tensor:
        """Return the values of a target, `(6,)`; refuse those that no picture has."""
        parts = require_numbers(target, {"mean": (3, -128, 128), "std": (3, 0.1, 100)})
        return torch.tensor([value for part in parts for value in part])


def to_lab(colours: Tensor) -> Tensor:
    """Return CIELAB `(..., 3)` of sRGB `(..., 3)` in [0, 1]: lightness from 0 to 100, a and b around 0."""
    linear = torch.where(colours > 0.04045, ((colours.clamp(min=0) + 0.055) / 1.055) ** 2.4, colours / 12.92)
    xyz = linear @ _TO_XYZ.T.to(colours)
    folded = torch.where(xyz > 0.008856, xyz.clamp(min=1e-6) ** (1 / 3), 7.787 * xyz + 16 / 116)
    x, y, z = folded.unbind(-1)
    return torch.stack([116 * y - 16, 500 * (x - y), 200 * (y - z)], dim=-1)


def from_lab(lab: Tensor) -> Tensor:
    """Return sRGB `(..., 3)` of CIELAB `(..., 3)`; colours that sRGB lacks are clipped to [0, 1]."""
    lightness, a, b = lab.unbind(-1)
    y = (lightness + 16) / 116
    folded = torch.stack([y + a / 500, y, (y - b / 200).clamp(min=0)], dim=-1)
    xyz = torch.where(folded > 0.2068966, folded**3, (folded - 16 / 116) / 7.787)
    linear = (xyz @ _FROM_XYZ.T.to(lab)).clamp(0, 1)
    return torch.where(linear > 0.0031308, 1.055 * linear.clamp(min=1e-6) ** (1 / 2.4) - 0.055, 12.92 * linear)
