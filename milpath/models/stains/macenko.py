"""Normalisation of stains after Macenko: two directions in optical density, and how much of each there is."""

import math
from collections.abc import Mapping
from typing import Any

import torch
from torch import Tensor

from milpath.models.stains.plain_numbers import require_numbers
from milpath.models.stains.tissue_pixels import FEWEST_PIXELS, optical_density, percentiles

_ENDS = (1.0, 99.0)
_MOST = 99.0
# Two stains closer than 5 degrees are one; a stain farther than 35 degrees from that of the target is another one, such as
# the brown of an immunostain.
_LEAST_SINE, _LEAST_COSINE = math.sin(math.radians(5)), math.cos(math.radians(35))
_LEAST_AMOUNT, _LARGEST_SCALE = 0.05, 10.0


class Macenko:
    """`D' = (D S^+) diag(m' / m) S'` for optical density D: the amounts of two stains S, in the colours of the target S'.

    The stains of a bag are the 1st and the 99th percentile of the angles of its tissue in the plane of the two largest
    principal components of D; m is the 99th percentile of the amount of each on tissue. White stays white.

    References:
        Macenko et al. A method for normalizing histology slides for quantitative analysis. ISBI 2009.
    """

    num_values = 9

    def statistics(self, pixels: Tensor, tissue: Tensor) -> tuple[Tensor, Tensor]:
        """Return stains and amounts `(bags, 8)`, and bool `(bags,)`: whether the bag has two stains to speak of.

        Args:
            pixels: `(bags, pixels, 3)` in [0, 1].
            tissue: bool `(bags, pixels)`.
        """
        density = optical_density(pixels).double()
        weights = tissue.double()[..., None]
        count = weights.sum(1).clamp(min=1)
        mean = (density * weights).sum(1) / count
        centred = (density - mean[:, None]) * weights
        covariance = centred.transpose(1, 2) @ centred / (count[..., None] - 1).clamp(min=1)
        plane = torch.linalg.eigh(covariance).eigenvectors[:, :, 1:]
        # The first axis of the plane points to the mean density, so that angles do not wrap around.
        inside = (plane.transpose(1, 2) @ mean[..., None])[..., 0]
        inside = inside / inside.norm(dim=1, keepdim=True).clamp(min=1e-12)
        across = torch.stack([-inside[:, 1], inside[:, 0]], dim=1)
        axes = plane @ torch.stack([inside, across], dim=2)
        projected = density @ axes
        angles = percentiles(torch.atan2(projected[..., 1], projected[..., 0]), tissue, _ENDS)
        ends = torch.stack([angles.cos(), angles.sin()], dim=2) @ axes.transpose(1, 2)
        # Haematoxylin is the one that absorbs more red.
        first = ends[..., 0].argmax(1)
        order = torch.stack([first, 1 - first], dim=1)
        stains = ends.gather(1, order[..., None].expand(-1, -1, 3))
        amounts = density @ _pseudo_inverse(stains)
        most = torch.cat([percentiles(amounts[..., stain], tissue, (_MOST,)) for stain in range(2)], dim=1)
        cosine = (stains[:, 0] * stains[:, 1]).sum(1)
        sound = (tissue.sum(1) >= FEWEST_PIXELS) & (cosine.abs() <= math.sqrt(1 - _LEAST_SINE**2))
        sound &= (most >= _LEAST_AMOUNT).all(1)
        return torch.cat([stains.flatten(1), most], dim=1), sound

    def transform(self, statistics: Tensor, target: Tensor) -> tuple[Tensor, Tensor]:
        """Return the matrices `(bags, 9)` that map the density of bags, and bool `(bags,)`: whether the stains fit."""
        stains, most = statistics[:, :6].unflatten(1, (2, 3)), statistics[:, 6:]
        goal, goal_most = target[:6].unflatten(0, (2, 3)).double(), target[6:].double()
        scale = (goal_most / most.clamp(min=1e-6)).clamp(1 / _LARGEST_SCALE, _LARGEST_SCALE)
        matrices = _pseudo_inverse(stains) @ (scale[..., None] * goal)
        alike = ((stains * goal).sum(2) >= _LEAST_COSINE).all(1)
        return matrices.flatten(1).float(), alike

    def apply(self, tiles: Tensor, values: Tensor) -> Tensor:
        """Return tiles `(tiles, 3, height, width)` with the values of their bags, `(tiles, 9)`."""
        density = optical_density(tiles).permute(0, 2, 3, 1)
        mapped = density.flatten(1, 2) @ values.unflatten(1, (3, 3))
        found: Tensor = mapped.neg_().exp_().clamp_(0, 1).view(density.shape).permute(0, 3, 1, 2)
        return found

    def target_of(self, statistics: Tensor) -> dict[str, list[float]]:
        """Return the median over bags as plain values, rounded so that every machine finds the same."""
        median = statistics.double().cpu().quantile(0.5, dim=0)
        stains = median[:6].view(2, 3)
        stains = stains / stains.norm(dim=1, keepdim=True)
        values = [[round(value, 6) for value in row] for row in (*stains.tolist(), median[6:].tolist())]
        return dict(zip(("haematoxylin", "eosin", "amounts"), values, strict=True))

    def tensor_of(self, target: Mapping[str, Any]) -> Tensor:
        """Return the values of a target, `(8,)`; refuse those that no stain has."""
        parts = require_numbers(target, {"haematoxylin": (3, -1, 1), "eosin": (3, -1, 1), "amounts": (2, 0.01, 20)})
        stains = parts[:2]
        if any(abs(math.hypot(*stain) - 1) > 0.01 for stain in stains):
            raise ValueError("haematoxylin and eosin of stain_target must have the length 1")
        if abs(sum(one * other for one, other in zip(*stains, strict=True))) > math.sqrt(1 - _LEAST_SINE**2):
            raise ValueError("haematoxylin and eosin of stain_target are the same colour")
        return torch.tensor([value for part in parts for value in part])


def _pseudo_inverse(stains: Tensor) -> Tensor:
    """Return `S^+ (bags, 3, 2)` of unit vectors `(bags, 2, 3)`: density times it is the amount of each stain."""
    cosine = (stains[:, 0] * stains[:, 1]).sum(1)
    one, other = torch.ones_like(cosine), -cosine
    inverse = torch.stack([one, other, other, one], dim=1).unflatten(1, (2, 2))
    inverse = inverse / (1 - cosine**2).clamp(min=1e-6)[:, None, None]
    found: Tensor = stains.transpose(1, 2) @ inverse
    return found
