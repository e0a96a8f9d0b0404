"""Haematoxylin and eosin of a slide: the colours of its two stains, and how much of each a pixel has."""

from typing import NamedTuple, Self

import numpy as np
from numpy.typing import NDArray

# Optical density (decimal logarithm) below which a pixel says nothing about the colour of a stain, and the percentiles of
# the angles that are taken for the pure stains: the values of Macenko et al.
_LEAST_DENSITY = 0.15
_PERCENTILES = (1.0, 99.0)
# Directions of the stains in density, as in the textbook: Ruifrok and Johnston, 2001.
HAEMATOXYLIN = np.array([0.65, 0.70, 0.29])
EOSIN = np.array([0.07, 0.99, 0.11])
_FEWEST_PIXELS = 50


class StainRange(NamedTuple):
    """The stains of a slide and the range of their amounts.

    Attributes:
        glass: Brightness of the glass, from 0 to 255.
        to_amounts: `(3, 3)`; density times its transpose is eosin, haematoxylin and the mean density.
        low: The 1st percentile of the three over the slide.
        high: The 99th percentile.
    """

    glass: float
    to_amounts: NDArray[np.float64]
    low: NDArray[np.float64]
    high: NDArray[np.float64]

    @classmethod
    def of(cls, pixels: NDArray[np.uint8], tissue: NDArray[np.bool_]) -> Self:
        """Return the stains of a slide.

        Args:
            pixels: Thumbnail, uint8 `(height, width, 3)`.
            tissue: Where it shows tissue, `(height, width)`.

        Raises:
            ValueError: If there is too little stained tissue.
        """
        empty = ~tissue & (pixels.min(axis=2) < 255)
        glass = float(np.clip(pixels[empty].mean(), 200, 255)) if empty.sum() >= 100 else 240.0
        haematoxylin, eosin = stain_vectors(pixels[tissue], glass)
        third = np.cross(haematoxylin, eosin)
        amounts = np.linalg.inv(np.stack([eosin, haematoxylin, third / np.linalg.norm(third)], axis=1))[:2]
        to_amounts = np.vstack([amounts, np.full(3, 1 / 3)])
        values = density(pixels.reshape(-1, 3), glass) @ to_amounts.T
        low, high = np.percentile(values, _PERCENTILES, axis=0)
        return cls(glass, to_amounts, low, high)

    def amounts(self, pixels: NDArray[np.uint8]) -> NDArray[np.float32]:
        """Return eosin, haematoxylin and density of a picture, `(height, width, 3)`, from 0 to 1 over the range."""
        values = density(pixels, self.glass) @ self.to_amounts.T
        return ((values - self.low) / (self.high - self.low + 1e-8)).clip(0, 1).astype(np.float32)


def density(pixels: NDArray[np.uint8], glass: float) -> NDArray[np.float64]:
    """Return the optical density of pixels, -log10(I / I0), at least 0."""
    return np.asarray(-np.log10(pixels.astype(np.float64).clip(1, glass) / glass))


def stain_vectors(colours: NDArray[np.uint8], glass: float) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """Return the directions of haematoxylin and eosin in optical density, unit vectors `(3,)`.

    The densities of a slide with two stains lie in a plane, between the directions of the pure stains; these are the 1st
    and 99th percentile of the angles in the plane of the two largest principal components. Haematoxylin is the one that
    absorbs more red.

    Args:
        colours: Colours of tissue, uint8 `(pixels, 3)`.
        glass: Brightness of the glass, from 0 to 255.

    Raises:
        ValueError: If there are fewer than 50 stained pixels.

    References:
        Macenko et al. A method for normalizing histology slides for quantitative analysis. ISBI, 2009.
    """
    values = density(colours, glass)
    values = values[np.linalg.norm(values, axis=1) >= _LEAST_DENSITY]
    if len(values) < _FEWEST_PIXELS:
        raise ValueError(f"only {len(values)} stained pixels; the colours of the stains cannot be estimated")
    _, vectors = np.linalg.eigh(np.cov(values.T))
    plane = vectors[:, :0:-1]
    # Both axes point to where the densities are, so that the angles do not wrap around.
    plane = plane * np.where(plane.sum(axis=0) < 0, -1, 1)
    projected = values @ plane
    angles = np.arctan2(projected[:, 1], projected[:, 0])
    ends = [plane @ np.array([np.cos(angle), np.sin(angle)]) for angle in np.percentile(angles, _PERCENTILES)]
    first, second = (end * np.sign(end.sum()) for end in ends)
    # The rule of stain normalisation. How much a direction is like the textbook's fails on slides whose eosin absorbs blue.
    return (first, second) if first[0] >= second[0] else (second, first)
