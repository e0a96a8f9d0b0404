"""What the tiles of a slide are: how much of its tissue they hold, and how much ink, padding and blur."""

import math
from dataclasses import asdict, dataclass
from typing import Any, Self

import numpy as np

from milpath.slides.detection.blur import blur_of
from milpath.slides.detection.tile_cover import covered, tile_fractions
from milpath.slides.detection.tissue_map import TissueMap
from milpath.slides.slide_view import SlideView
from milpath.slides.tile_grid import inside_fraction
from milpath.slides.tile_positions import TilePositions

# Bounds of the warnings, in the units of `BagQuality`.
LEAST_TISSUE_IN_BAG = 0.2
LEAST_TISSUE_OF_TILE = 0.1
MOST_INK = 0.1
# A tile blurred by a Gaussian of two to three pixels.
MOST_BLUR = 0.6
# Sharpness is measured in the middle of the tiles with the most tissue, which are read once more.
_TILES_READ, _SIDE_READ = 4, 128
_LEAST_FOR_BLUR = 0.5

NO_TISSUE, LITTLE_TISSUE, NOT_TISSUE = "no tissue", "little of the tissue", "mostly not tissue"
INK, BLURRED = "ink", "blurred"
# What each warning means, said of several slides.
WARNINGS = {
    NO_TISSUE: "no tissue was found",
    LITTLE_TISSUE: f"less than {LEAST_TISSUE_IN_BAG * 100:.0f} % of their tissue is in the bag",
    NOT_TISSUE: "most of their tiles are not tissue",
    INK: f"marker ink covers more than {MOST_INK * 100:.0f} % of their tiles",
    BLURRED: "their tiles are blurred",
}


@dataclass(frozen=True)
class BagQuality:
    """What the tiles of a slide are; fractions are areas in [0, 1], `None` is unknown.

    Attributes:
        num_tiles: Tiles that were cut from the slide, without white filler tiles.
        slide_tissue: Fraction of the slide that is tissue.
        slide_marker: Fraction of the slide that is marker ink.
        slide_black: Fraction of the slide that is padded with black.
        slide_dense: Fraction of the tissue with at least 1.8 times the median optical density: folds, clots, dense cells.
        tissue_in_bag: Fraction of the slide's tissue that lies in the tiles; `None` without tissue.
        bag_tissue: Fraction of the tiles that is tissue.
        bag_marker: Fraction of the tiles that is marker ink.
        bag_black: Fraction of the tiles that is black padding.
        num_without_tissue: Tiles of which less than 10 % is tissue.
        num_partly_outside: Tiles that lie partly beyond the edge of the slide, where they are white.
        num_filler: White filler tiles.
        blur: Median of `blur_of` over the four tiles with the most tissue, 0 (sharp) to 1; `None` without tissue.
    """

    num_tiles: int
    slide_tissue: float
    slide_marker: float
    slide_black: float
    slide_dense: float
    tissue_in_bag: float | None
    bag_tissue: float
    bag_marker: float
    bag_black: float
    num_without_tissue: int
    num_partly_outside: int
    num_filler: int
    blur: float | None

    @property
    def warnings(self) -> list[str]:
        """What looks wrong: keys of `WARNINGS`."""
        if self.slide_tissue == 0:
            return [NO_TISSUE]
        found = []
        if self.tissue_in_bag is not None and self.tissue_in_bag < LEAST_TISSUE_IN_BAG:
            found.append(LITTLE_TISSUE)
        if self.mostly_not_tissue:
            found.append(NOT_TISSUE)
        if self.bag_marker > MOST_INK:
            found.append(INK)
        if self.blur is not None and self.blur > MOST_BLUR:
            found.append(BLURRED)
        return found

    @property
    def mostly_not_tissue(self) -> bool:
        """Whether the tiles hold less tissue than ink and black together, or most of them hold next to none."""
        return self.bag_tissue < self.bag_marker + self.bag_black or 2 * self.num_without_tissue > self.num_tiles

    def to_record(self) -> dict[str, Any]:
        """Return plain values, rounded to four digits."""
        return {name: round(value, 4) if isinstance(value, float) else value for name, value in asdict(self).items()}

    @classmethod
    def from_record(cls, values: dict[str, Any]) -> Self:
        """Return what `to_record` wrote."""
        return cls(**values)


def measure_bag(view: SlideView, places: TilePositions, tile_size: int, tissue: TissueMap) -> BagQuality:
    """Return what the tiles of a slide are.

    Args:
        view: The slide at the resolution of the tiles.
        places: Positions of the tiles.
        tile_size: Their side in pixels of the view.
        tissue: Map of the slide.
    """
    real = places.number >= 0
    x, y = places.x[real], places.y[real]
    of_tiles = {
        name: tile_fractions(mask, x, y, tile_size, tissue.step)
        for name, mask in (("tissue", tissue.tissue), ("marker", tissue.marker), ("black", tissue.black))
    }
    total = int(tissue.tissue.sum())
    in_bag = covered(tissue.tissue.shape, x, y, tile_size, tissue.step)
    in_bag *= tissue.tissue
    best = np.argsort(-of_tiles["tissue"], kind="stable")[:_TILES_READ]
    best = best[of_tiles["tissue"][best] >= _LEAST_FOR_BLUR]
    side = min(tile_size, _SIDE_READ)
    margin = (tile_size - side) // 2
    blurs = [blur_of(view.read(int(x[index]) + margin, int(y[index]) + margin, side, side)) for index in best]
    blurs = [value for value in blurs if not math.isnan(value)]
    return BagQuality(
        num_tiles=len(x),
        slide_tissue=float(tissue.tissue.mean()),
        slide_marker=float(tissue.marker.mean()),
        slide_black=float(tissue.black.mean()),
        slide_dense=float(tissue.dense.sum() / total) if total else 0.0,
        tissue_in_bag=float(in_bag.sum() / total) if total else None,
        bag_tissue=float(of_tiles["tissue"].mean()) if len(x) else 0.0,
        bag_marker=float(of_tiles["marker"].mean()) if len(x) else 0.0,
        bag_black=float(of_tiles["black"].mean()) if len(x) else 0.0,
        num_without_tissue=int((of_tiles["tissue"] < LEAST_TISSUE_OF_TILE).sum()),
        num_partly_outside=int((inside_fraction(x, y, tile_size, view.size) < 1).sum()),
        num_filler=int((~real).sum()),
        blur=float(np.median(blurs)) if blurs else None,
    )
