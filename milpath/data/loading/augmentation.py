"""Augmentation of whole batches on their device, independently per tile but without a loop over tiles."""

import math

import torch
import torch.nn.functional as F
from torch import Tensor

AUGMENTATIONS = ("none", "flips", "turns", "full", "affine")
# Largest rotation in radians, shift as a share of the width and height, and change of the size in "affine".
_ROTATION, _SHIFT, _RESIZING = math.radians(15), 2 / 28, 0.1
# Optical density of haematoxylin, eosin and their residual in red, green and blue, each of length 1 (Ruifrok and
# Johnston 2001, values of scikit-image).
_STAINS = torch.tensor([[0.65, 0.70, 0.29], [0.07, 0.99, 0.11], [0.27, 0.57, 0.78]])


class TileAugmentation:
    """Flip, rotate, move and recolour each tile independently.

    - flips: left to right and top to bottom, each with probability 1/2;
    - quarter turns: one with probability 1/2, so that with flips all eight symmetries of a square are equally likely;
    - stain jitter: the amount of each of three stains is multiplied by a factor drawn from `[1 - stain_jitter,
      1 + stain_jitter]`: with `D = -ln(tile)` in optical density and stain matrix S, `D' = D S^-1 diag(factors) S`. White
      stays white;
    - affine: a rotation of up to 15 degrees, a shift of up to 2/28 of the width and of the height, and a change of the
      size by a factor between 1/1.1 and 1.1, each uniform (the size on a logarithmic scale). Pixels are interpolated, and
      those at the edge repeated beyond it. For tiles that have an upright position, such as digits.

    Args:
        kind: "none", "flips", "turns" (flips and quarter turns), "full" (turns and stain jitter) or "affine".
        stain_jitter: Largest relative change of a stain, in [0, 1).

    References:
        Ruifrok and Johnston, Analytical and Quantitative Cytology and Histology 2001, for the stain matrix; Tellez et al.,
        Medical Image Analysis 2019, section 3.1, for jitter in this space.

    Example:
        >>> tiles = torch.rand(2, 16, 3, 32, 32)
        >>> TileAugmentation("full")(tiles).shape
        torch.Size([2, 16, 3, 32, 32])
    """

    def __init__(self, kind: str = "full", stain_jitter: float = 0.1) -> None:
        if kind not in AUGMENTATIONS:
            raise ValueError(f"data.augmentation is {kind!r}; it must be one of {', '.join(AUGMENTATIONS)}")
        if not 0 <= stain_jitter < 1:
            raise ValueError(f"data.stain_jitter is {stain_jitter}; it must be in [0, 1)")
        self.kind = kind
        self.stain_jitter = stain_jitter

    def __call__(self, tiles: Tensor, generator: torch.Generator | None = None) -> Tensor:
        """Augment a batch.

        Args:
            tiles: `(bags, tiles, 3, height, width)` float in [0, 1].
            generator: Generator on the device of the tiles; `None` uses torch's default.

        Returns:
            Tiles with the same shape, range and memory layout.
        """
        return self.recolour(self.move(self.turn(tiles, generator), generator), generator)

    def turn(self, tiles: Tensor, generator: torch.Generator | None = None) -> Tensor:
        """Flip and rotate tiles of any dtype; moving bytes costs a quarter of moving floats."""
        if self.kind in ("none", "affine"):
            return tiles
        chosen = torch.rand((3, *tiles.shape[:2], 1, 1, 1), device=tiles.device, generator=generator) < 0.5
        # Tiles are channels last in memory, and stay so.
        tiles = tiles.permute(0, 1, 3, 4, 2)
        tiles = torch.where(chosen[0], tiles.flip(3), tiles)
        tiles = torch.where(chosen[1], tiles.flip(2), tiles)
        # A quarter turn is a transposition and a flip, and the flips are already drawn; only squares keep their shape.
        if self.kind != "flips" and tiles.shape[2] == tiles.shape[3]:
            # The result has the memory layout of the first of the two.
            tiles = torch.where(~chosen[2], tiles, tiles.transpose(2, 3))
        return tiles.permute(0, 1, 4, 2, 3)

    def move(self, tiles: Tensor, generator: torch.Generator | None = None) -> Tensor:
        """Rotate, shift and resize float tiles by little."""
        if self.kind != "affine":
            return tiles
        flat = tiles.flatten(0, 1)
        draws = 2 * torch.rand((4, len(flat)), device=tiles.device, generator=generator) - 1
        angles, sizes = draws[0] * _ROTATION, torch.exp(draws[1] * math.log1p(_RESIZING))
        cosines, sines = angles.cos() * sizes, angles.sin() * sizes
        # Coordinates of a tile go from -1 to 1. In pixels, x and y are on one scale only if the tile is a square.
        aspect = tiles.shape[4] / tiles.shape[3]
        rows = (cosines, -sines / aspect, draws[2] * 2 * _SHIFT), (sines * aspect, cosines, draws[3] * 2 * _SHIFT)
        grid = F.affine_grid(
            torch.stack([torch.stack(row, 1) for row in rows], 1), list(flat.shape), align_corners=False
        )
        moved = F.grid_sample(flat, grid, padding_mode="border", align_corners=False)
        placed: Tensor = moved.contiguous(memory_format=torch.channels_last).unflatten(0, tiles.shape[:2])
        return placed

    def recolour(self, tiles: Tensor, generator: torch.Generator | None = None) -> Tensor:
        """Jitter the stains of float tiles with values in [0, 1]."""
        if self.kind != "full" or self.stain_jitter == 0:
            return tiles
        if tiles.shape[2] != 3:
            raise ValueError(f"data.augmentation=full needs colour tiles, these have {tiles.shape[2]} channel(s)")
        stains = _STAINS.to(tiles.device)
        draws = torch.rand((*tiles.shape[:2], 3, 1), device=tiles.device, generator=generator)
        factors = 1 + self.stain_jitter * (2 * draws - 1)
        mixing = torch.linalg.inv(_STAINS).to(tiles.device) @ (factors * stains)
        # A view, then one small matrix product per pixel.
        density = tiles.permute(0, 1, 3, 4, 2).clamp(min=1 / 255).log()
        mixed = density.flatten(2, 3) @ mixing
        recoloured: Tensor = mixed.exp_().clamp_(0, 1).unflatten(2, tiles.shape[3:]).permute(0, 1, 4, 2, 3)
        return recoloured
