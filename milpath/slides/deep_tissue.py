"""Tissue of a slide found by a segmentation network, which runs only where the slide has any colour."""

import math
from functools import lru_cache

import numpy as np
from numpy.typing import NDArray

from milpath.slides.detection.neighbours import dilate
from milpath.slides.detection.stain_vectors import StainRange
from milpath.slides.detection.tissue_map import TissueMap
from milpath.slides.detection.tissue_model import TissueModel
from milpath.slides.slide_view import SlideView, view_at

# A slide may be coarser than the network's resolution by this factor.
_COARSER = 1.25
_LEAST_PROBABILITY = 0.5


@lru_cache(maxsize=1)
def load_tissue_model(path: str) -> TissueModel:
    """Return the network of a file; it is loaded once per process."""
    return TissueModel(path)


def refine_tissue(view: SlideView, found: TissueMap, pixels: NDArray[np.uint8], model: TissueModel) -> TissueMap:
    """Return the map with the tissue that a network finds; ink and black padding stay excluded.

    The network sees every window in which the map has tissue or a neighbour of tissue; elsewhere there is none. A pixel of
    the map is tissue if the mean probability in it is at least 0.5.

    Args:
        view: The slide at the resolution of the tiles.
        found: Map from `map_tissue`.
        pixels: The thumbnail from which it was made.
        model: The network.

    Raises:
        ValueError: If the resolution of the slide is unknown or too low for the network.
    """
    slide, spec = view.slide, model.spec
    if slide.microns_per_pixel is None:
        raise ValueError(
            f"tissue_model needs the resolution of {slide.path.name}, which it does not state; set "
            "slide_microns_per_pixel=NUMBER"
        )
    if slide.microns_per_pixel > spec.microns_per_pixel * _COARSER:
        raise ValueError(
            f"{slide.path.name} has {slide.microns_per_pixel:g} microns per pixel, but tissue_model={model.path} needs "
            f"{spec.microns_per_pixel:g}; leave tissue_model out for this slide"
        )
    fine = view_at(slide, spec.microns_per_pixel / slide.microns_per_pixel)
    stains = StainRange.of(pixels, found.tissue) if spec.input == "stains" and found.tissue.any() else None
    height, width = found.tissue.shape
    # Pixels of the network's resolution per pixel of the map.
    across, down = (step * view.downsample / fine.downsample for step in found.step)
    columns, rows = max(1, int(spec.window / across)), max(1, int(spec.window / down))
    wanted, tissue = dilate(found.tissue), np.zeros((height, width), bool)
    for top in range(0, height, rows):
        for left in range(0, width, columns):
            part = slice(top, min(top + rows, height)), slice(left, min(left + columns, width))
            if not wanted[part].any():
                continue
            window = fine.read(math.floor(left * across), math.floor(top * down), spec.window, spec.window)
            probability = model.probability(window, stains)
            tissue[part] = _mean_over(probability, part, across, down) >= _LEAST_PROBABILITY
    return found._replace(tissue=tissue & ~found.marker & ~found.black, dense=found.dense & tissue)


def _mean_over(
    values: NDArray[np.float32], part: tuple[slice, slice], across: float, down: float
) -> NDArray[np.float64]:
    """Return the mean of a window's values over each pixel of the map in a part of it."""
    edges = []
    for span, scale in zip(part, (down, across), strict=True):
        start = math.floor(span.start * scale)
        ends = np.floor(np.arange(span.start, span.stop + 1) * scale).astype(np.int64) - start
        edges.append(np.clip(ends, 0, len(values)))
    table = np.zeros((values.shape[0] + 1, values.shape[1] + 1))
    np.cumsum(np.cumsum(values, axis=0, dtype=np.float64), axis=1, out=table[1:, 1:])
    sums = np.diff(np.diff(table[np.ix_(*edges)], axis=0), axis=1)
    return np.asarray(sums / np.maximum(np.outer(*(np.diff(ends) for ends in edges)), 1))
