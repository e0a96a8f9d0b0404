"""GeoJSON outlines of tiles for QuPath, with attention as a measurement."""

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from milpath.drawing.picture_frame import attention_limits, colours_of
from milpath.records.atomic_files import write_text

Values = NDArray[np.floating]


def tiles_to_geojson(
    weights: Values,
    x: Values,
    y: Values,
    tile_size: float,
    downsample: float = 1.0,
    measurements: Mapping[str, Values] | None = None,
    warning: str = "",
    limits: tuple[float, float] | None = None,
) -> dict[str, Any]:
    """Return the tiles of a slide as a FeatureCollection in pixels of level 0.

    QuPath (0.4 or newer: "Import objects from file") creates a tile from each feature; "Measure > Show measurement
    maps" then colours them by the measurement "attention".

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

    References:
        The GeoJSON Format, RFC 7946 (except for the coordinates, which are pixels, as QuPath expects).

    Example:
        >>> collection = tiles_to_geojson(np.array([1.0]), np.array([10]), np.array([20]), 128, downsample=16)
        >>> collection["features"][0]["geometry"]["coordinates"][0][0]
        [160.0, 320.0]
    """
    if not len(weights) == len(x) == len(y):
        raise ValueError(f"{len(weights)} weights need as many positions, got {len(x)} x and {len(y)} y")
    more = {"attention": weights} | dict(measurements or {})
    # A weight that is not finite is kept here and refused by `write_geojson`.
    shown = np.nan_to_num(np.asarray(weights, dtype=np.float64), nan=0.0, posinf=0.0, neginf=0.0)
    colours = colours_of(shown, limits or attention_limits(shown), "viridis")
    features = []
    for index, (left, top) in enumerate(zip(np.asarray(x, float), np.asarray(y, float), strict=True)):
        if np.isnan(left) or np.isnan(top):
            continue
        properties: dict[str, Any] = {
            "objectType": "tile",
            "name": f"tile {index}",
            "color": colours[index].tolist(),
            "measurements": {name: float(values[index]) for name, values in more.items()},
        }
        if warning:
            properties["metadata"] = {"warning": warning}
        features.append(
            {
                "type": "Feature",
                "geometry": _square(left * downsample, top * downsample, tile_size * downsample),
                "properties": properties,
            }
        )
    return {"type": "FeatureCollection", **({"warning": warning} if warning else {}), "features": features}


def write_geojson(collection: Mapping[str, Any], path: Path) -> None:
    """Write a FeatureCollection atomically."""
    write_text(path, json.dumps(collection, allow_nan=False, separators=(",", ":")) + "\n")


def _square(left: float, top: float, size: float) -> dict[str, Any]:
    """Return a closed polygon."""
    right, bottom = left + size, top + size
    corners = [[left, top], [right, top], [right, bottom], [left, bottom], [left, top]]
    return {"type": "Polygon", "coordinates": [[[float(value) for value in corner] for corner in corners]]}
