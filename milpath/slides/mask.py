"""Tile labels from a mask: the fraction of cancer in the tissue and its Gleason pattern."""

from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from milpath.slides.readers.rgb import WHITE
from milpath.slides.readers.slide import Slide
from milpath.slides.slide_view import SlideView
from milpath.slides.tile_positions import TilePositions, read_places


class MaskLabels(NamedTuple):
    """Meaning of the values of a mask from one provider.

    Attributes:
        tissue: Values that mean tissue.
        cancer: Those of them that mean cancer.
        patterns: Value to Gleason pattern.
        largest: The largest valid value.
        names: Values that are shown in pictures, the most severe first; stroma and plain tissue stay transparent.
    """

    tissue: tuple[int, ...]
    cancer: tuple[int, ...]
    patterns: dict[int, int]
    largest: int
    names: dict[int, str]


# Bulten et al. Artificial intelligence for diagnosis and Gleason grading of prostate cancer: the PANDA challenge.
# Nature Medicine, 2022; the values are documented on the data page of the challenge.
_RADBOUD = {5: "Gleason 5", 4: "Gleason 4", 3: "Gleason 3", 2: "benign epithelium"}
MASK_LABELS = {
    "radboud": MaskLabels((1, 2, 3, 4, 5), (3, 4, 5), {3: 3, 4: 4, 5: 5}, 5, _RADBOUD),
    "karolinska": MaskLabels((1, 2), (2,), {}, 2, {2: "cancer"}),
}


class TileLabels(NamedTuple):
    """Labels of each tile, from a mask.

    Attributes:
        tile_label: 1 with cancer, 0 without, -1 for a white filler tile.
        cancer_fraction: Fraction of the tissue that is cancer, in [0, 1]; NaN without tissue.
        gleason_pattern: The most frequent pattern (3, 4 or 5; the higher one of ties); 0 if there is none or the
            provider marks none.
    """

    tile_label: NDArray[np.int64]
    cancer_fraction: NDArray[np.float64]
    gleason_pattern: NDArray[np.int64]


def label_tiles(mask: Slide, view: SlideView, places: TilePositions, tile_size: int, provider: str) -> TileLabels:
    """Return the labels of the tiles of a slide from its PANDA mask.

    Args:
        mask: Open mask of the slide; its values are in the red channel.
        view: The view of the slide from which the tiles were cut.
        places: Positions of the tiles.
        tile_size: Their side in pixels of the view.
        provider: "radboud" or "karolinska".

    Raises:
        ValueError: If no level of the mask has the size of the slide's level, or the mask has values that the provider
            does not use.
    """
    if provider not in MASK_LABELS:
        raise ValueError(
            f"data_provider of {view.slide.path.name} is {provider!r}; expected one of {', '.join(MASK_LABELS)}"
        )
    meaning, counts = MASK_LABELS[provider], _count_values(mask, view, places, tile_size)
    if counts[:, meaning.largest + 1 :].any():
        wrong = int(np.flatnonzero(counts.any(axis=0))[-1])
        raise ValueError(
            f"{mask.path.name} has the value {wrong}; masks of {provider} have 0 to {meaning.largest}; "
            "check data_provider and the mask"
        )
    tissue, cancer = counts[:, meaning.tissue].sum(axis=1), counts[:, meaning.cancer].sum(axis=1)
    fraction = np.divide(cancer, tissue, out=np.full(len(counts), np.nan), where=tissue > 0)
    patterns = sorted(meaning.patterns, reverse=True)
    pattern = np.zeros(len(counts), np.int64)
    if patterns:
        found = counts[:, patterns]
        names = np.array([meaning.patterns[value] for value in patterns])
        pattern = np.where(found.any(axis=1), names[found.argmax(axis=1)], 0)
    return TileLabels(np.where(places.number < 0, -1, cancer > 0), fraction, pattern)


def _matching_level(mask: Slide, view: SlideView) -> int:
    """Return the level of a mask that matches the slide level that was read pixel by pixel."""
    wanted = view.slide.level_sizes[view.level]
    if wanted not in mask.level_sizes:
        sizes = ", ".join(f"{width} x {height}" for width, height in mask.level_sizes)
        raise ValueError(
            f"{mask.path.name} has levels of {sizes} px, but none of {wanted.width} x {wanted.height} px "
            f"like level {view.level} of its slide; use the mask that belongs to the slide"
        )
    return mask.level_sizes.index(wanted)


def _count_values(mask: Slide, view: SlideView, places: TilePositions, tile_size: int) -> NDArray[np.int64]:
    """Return how many pixels of each tile have each value, `(tiles, 256)`; pixels outside the slide are not counted."""
    over = SlideView(mask, _matching_level(mask, view))
    # Values must not be interpolated: the mask is not resampled even if the slide is.
    x, y = (np.round(corner * view.scale).astype(np.int64) for corner in (places.x, places.y))
    side = max(1, round(tile_size * view.scale))
    counts = np.zeros((len(places.number), 256), np.int64)
    for positions, tiles in read_places(over, TilePositions(x, y, places.number), side):
        for position, tile in zip(positions, tiles, strict=True):
            counts[position] = np.bincount(tile[:, :, 0].ravel(), minlength=256)
    spans = [
        np.clip(corner + side, 0, limit) - np.clip(corner, 0, limit)
        for corner, limit in zip((x, y), over.size, strict=True)
    ]
    counts[:, WHITE] -= side * side - spans[0] * spans[1]
    counts[places.number < 0] = 0
    return counts
