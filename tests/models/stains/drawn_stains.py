"""Bags of tiles drawn with two known stains."""

import torch
from torch import Tensor

HAEMATOXYLIN, EOSIN = (0.65, 0.70, 0.29), (0.10, 0.95, 0.20)
HAEMATOXYLIN, EOSIN = (
    tuple((torch.tensor(stain) / torch.tensor(stain).norm()).tolist()) for stain in (HAEMATOXYLIN, EOSIN)
)


def stained(
    bags: int,
    tiles: int,
    size: int,
    *,
    amounts: tuple[float, float] = (1.2, 0.9),
    haematoxylin: tuple[float, ...] = HAEMATOXYLIN,
    eosin: tuple[float, ...] = EOSIN,
    seed: int = 0,
    least: float = 0.0,
) -> Tensor:
    """Return `(bags, tiles, 3, size, size)` in [0, 1] in 255 steps: of each stain an amount from `least` to `amounts`.

    Some pixels have only one of them, so that both colours occur in pure form.
    """
    generator = torch.Generator().manual_seed(seed)
    stains = torch.tensor([haematoxylin, eosin])
    stains = stains / stains.norm(dim=1, keepdim=True)
    drawn = torch.rand((bags, tiles, size, size, 2), generator=generator)
    pure = torch.rand((bags, tiles, size, size, 2), generator=generator) < 0.1
    drawn = torch.where(pure & ~pure.flip(-1), 0.0, drawn) * (1 - least) + least
    pixels = torch.exp(-(drawn * torch.tensor(amounts)) @ stains)
    return (pixels * 255).round().div(255).permute(0, 1, 4, 2, 3)
