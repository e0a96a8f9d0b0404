"""The rows of one slide in `tiles.csv`."""

import csv
import io

import numpy as np

from milpath.slides.mask import TileLabels, label_tiles
from milpath.slides.readers.open_slide import open_slide
from milpath.slides.slide_view import SlideView
from milpath.slides.tile_positions import TilePositions
from milpath.tiling.slide_job import SlideJob


def tile_columns(method: str, *, masks: bool) -> tuple[str, ...]:
    """Return the columns of `tiles.csv` after `bag_id`."""
    tissue = ("tissue_fraction",) if method == "tissue" else ()
    return ("x", "y", "level", *tissue, *(TileLabels._fields if masks else ()))


def read_labels(job: SlideJob, view: SlideView, places: TilePositions) -> TileLabels | None:
    """Return the tile labels, `None` if masks are not used; all are unknown for a slide without a mask."""
    if job.provider is None:
        return None
    if job.mask is None:
        count = len(places.number)
        return TileLabels(np.full(count, -1), np.full(count, np.nan), np.zeros(count, np.int64))
    with open_slide(job.mask) as mask:
        return label_tiles(mask, view, places, job.options.tile_size, job.provider)


def tile_rows(job: SlideJob, view: SlideView, places: TilePositions, labels: TileLabels | None) -> str:
    """Return the lines of `tiles.csv`; an empty cell is unknown, such as the position of a white filler tile."""
    columns: dict[str, list[object]] = {
        "x": [x if number >= 0 else "" for x, number in zip(places.x.tolist(), places.number, strict=True)],
        "y": [y if number >= 0 else "" for y, number in zip(places.y.tolist(), places.number, strict=True)],
        "level": [view.level] * len(places.number),
    }
    if places.tissue is not None:
        columns["tissue_fraction"] = [f"{value:.4f}" for value in places.tissue]
    if labels is not None:
        columns["tile_label"] = labels.tile_label.tolist()
        columns["cancer_fraction"] = ["" if np.isnan(value) else f"{value:.4f}" for value in labels.cancer_fraction]
        columns["gleason_pattern"] = [value or "" for value in labels.gleason_pattern.tolist()]
    buffer = io.StringIO(newline="")
    csv.writer(buffer, lineterminator="\n").writerows(
        zip([job.bag_id] * len(places.number), *columns.values(), strict=True)
    )
    return buffer.getvalue()
