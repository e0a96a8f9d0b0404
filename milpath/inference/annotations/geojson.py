"""GeoJSON for QuPath: tiles with attention as a measurement and a class, and the answer for the slide as an annotation."""

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from milpath.drawing.picture_frame import attention_limits, colours_of
from milpath.inference.annotations.attention_classes import CLASSES, attention_classes, attention_ranks, class_colour
from milpath.inference.annotations.slide_answer import SlideAnswer
from milpath.records.atomic_files import write_text

Values = NDArray[np.floating]
RANK = "attention rank"
# Of the annotation: neither the colour of a tile nor one of QuPath's own classes.
_ANSWER_COLOUR = [31, 119, 180]


def tiles_to_geojson(
    weights: Values,
    x: Values,
    y: Values,
    tile_size: float,
    downsample: float = 1.0,
    measurements: Mapping[str, Values] | None = None,
    warning: str = "",
    limits: tuple[float, float] | None = None,
    *,
    ranks: NDArray[np.int64] | None = None,
    num_ranked: int | None = None,
    answer: SlideAnswer | None = None,
    colour_map: str = "viridis",
) -> dict[str, Any]:
    """Return the tiles of a slide as a FeatureCollection in pixels of level 0.

    QuPath (0.4 or newer: "Import objects from file") creates a tile from each feature; "Measure > Show measurement
    maps" then colours them by the measurement "attention". Its classification is one of `attention_classes.CLASSES`, and
    the colour of a tile itself is that of its attention. The last feature is an annotation around the tiles with the answer
    for the slide: a locked rectangle whose name is the answer in words, whose class is the predicted one and whose
    measurements are the numbers of `predictions.csv`.

    Args:
        weights: `(tiles,)` attention.
        x: `(tiles,)` left edges in pixels of the level from which the tiles were read; tiles with NaN have no position
            and are omitted.
        y: `(tiles,)` top edges likewise.
        tile_size: Side of a tile in the same pixels.
        downsample: Pixels of level 0 per such pixel.
        measurements: Name to `(tiles,)` values of additional measurements.
        warning: What the training data say against themselves, kept with each tile; QuPath shows it as metadata.
        limits: Weights at the ends of the colours; `None` uses `attention_limits`.
        ranks: `(tiles,)` ranks among the tiles of the bag, if these are only some of them; `None` ranks these.
        num_ranked: Number of tiles of that bag; `None` with `ranks=None`.
        answer: The answer for the slide; `None` writes no annotation.
        colour_map: One of `milpath.drawing.picture_frame.COLOUR_MAPS`.

    References:
        The GeoJSON Format, RFC 7946 (except for the coordinates, which are pixels, as QuPath expects).

    Example:
        >>> collection = tiles_to_geojson(np.array([1.0]), np.array([10]), np.array([20]), 128, downsample=16)
        >>> collection["features"][0]["geometry"]["coordinates"][0][0]
        [160.0, 320.0]
    """
    if not len(weights) == len(x) == len(y):
        raise ValueError(f"{len(weights)} weights need as many positions, got {len(x)} x and {len(y)} y")
    # A weight that is not finite is kept here and refused by `write_geojson`.
    shown = np.nan_to_num(np.asarray(weights, dtype=np.float64), nan=0.0, posinf=0.0, neginf=0.0)
    ranks = attention_ranks(shown) if ranks is None else ranks
    more = {"attention": weights, RANK: ranks} | dict(measurements or {})
    colours = colours_of(shown, limits or attention_limits(shown), colour_map)
    classes = [{"name": each.name, "color": list(class_colour(each, colour_map))} for each in CLASSES]
    of_tile = attention_classes(ranks, len(weights) if num_ranked is None else num_ranked)
    left, top = np.asarray(x, float) * downsample, np.asarray(y, float) * downsample
    placed, size = np.flatnonzero(~(np.isnan(left) | np.isnan(top))), tile_size * downsample
    features = []
    for index in placed.tolist():
        properties: dict[str, Any] = {
            "objectType": "tile",
            "name": f"tile {index}",
            "color": colours[index].tolist(),
            "classification": classes[of_tile[index]],
            "measurements": {name: float(values[index]) for name, values in more.items()},
        }
        if warning:
            properties["metadata"] = {"warning": warning}
        features.append(
            {
                "type": "Feature",
                "geometry": _rectangle(left[index], top[index], left[index] + size, top[index] + size),
                "properties": properties,
            }
        )
    if answer is not None and len(placed):
        edges = [float(part) for part in (left[placed].min(), top[placed].min())]
        ends = [float(part) + size for part in (left[placed].max(), top[placed].max())]
        features.append(_annotation(answer, _rectangle(*edges, *ends)))
    return {"type": "FeatureCollection", **({"warning": warning} if warning else {}), "features": features}


def write_geojson(collection: Mapping[str, Any], path: Path) -> None:
    """Write a FeatureCollection atomically."""
    write_text(path, json.dumps(collection, allow_nan=False, separators=(",", ":")) + "\n")


def _annotation(answer: SlideAnswer, geometry: dict[str, Any]) -> dict[str, Any]:
    """Return the annotation that carries the answer for a slide."""
    properties: dict[str, Any] = {
        "objectType": "annotation",
        "name": f"{answer.bag_id}: {answer.in_words()}",
        "color": _ANSWER_COLOUR,
        "isLocked": True,
        "measurements": answer.measurements(),
        "metadata": {"bag": answer.bag_id, **answer.texts()},
    }
    # QuPath reads a colon in a class as a class within a class.
    if name := " ".join(answer.predicted.replace(":", " ").split()):
        properties["classification"] = {"name": name, "color": _ANSWER_COLOUR}
    return {"type": "Feature", "geometry": geometry, "properties": properties}


def _rectangle(left: float, top: float, right: float, bottom: float) -> dict[str, Any]:
    """Return a closed polygon."""
    corners = [[left, top], [right, top], [right, bottom], [left, bottom], [left, top]]
    return {"type": "Polygon", "coordinates": [[[float(value) for value in corner] for corner in corners]]}
