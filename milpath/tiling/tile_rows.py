"""The rows of one slide in `tiles.csv`."""

import csv
import io

import numpy as np
from numpy.typing import NDArray

from milpath.slides.mask import TileLabels, label_tiles
from milpath.slides.readers.open_slide import open_slide
from milpath.slides.slide_view import SlideView
from milpath.slides.tile_positions import LEVEL0_COLUMNS, TilePositions
from milpath.tiling.slide_job import SlideJob


def tile_columns(method: str, *, masks: bool) -> tuple[str, ...]:
    """Return the columns of `tiles.csv` after `bag_id`."""
    tissue = ("tissue_fraction",) if method == "tissue" else ()
    return ("x", "y", "level", *LEVEL0_COLUMNS, *tissue, *(TileLabels._fields if masks else ()))


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
    x0, y0 = view.to_level0(places.x, places.y)
    size0 = np.full(len(places.number), round(job.options.tile_size * view.downsample))
    columns: dict[str, list[object]] = {
        "x": _placed(places.x, places),
        "y": _placed(places.y, places),
        "level": [view.level] * len(places.number),
        **{name: _placed(values, places) for name, values in zip(LEVEL0_COLUMNS, (x0, y0, size0), strict=True)},
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


def add_level0(rows: bytes, tile_size: int, downsample: float) -> bytes:
    """Return rows that milpath 0.1.0 wrote, without places on level 0, with them."""
    buffer = io.StringIO(newline="")
    writer = csv.writer(buffer, lineterminator="\n")
    for bag_id, x, y, level, *rest in csv.reader(io.StringIO(rows.decode("utf-8"), newline="")):
        values = (int(x) * downsample, int(y) * downsample, tile_size * downsample) if x else None
        writer.writerow([bag_id, x, y, level, *(map(round, values) if values else ("", "", "")), *rest])
    return buffer.getvalue().encode("utf-8")


def _placed(values: NDArray[np.int64], places: TilePositions) -> list[object]:
    """Return the cells of a column; empty for a white filler tile, which has no place on the slide."""
    return [value if number >= 0 else "" for value, number in zip(values.tolist(), places.number, strict=True)]
