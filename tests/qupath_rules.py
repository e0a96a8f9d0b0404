"""What QuPath 0.4 to 0.6 makes of a GeoJSON file, by the rules of its own reader.

The rules are those of QuPath's sources: `GsonTools.java` (classes), `QuPathTypeAdapters.java`, called
`PathObjectTypeAdapters.java` before 0.5 (objects, measurements, metadata) and `ROITypeAdapters.java` (geometries). What the
reader would drop, guess or fail on is an error here.
"""

import json
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from shapely.geometry import shape
from shapely.geometry.base import BaseGeometry

# "createTileObject", "createAnnotationObject", ...; any other type becomes an annotation after a warning.
TYPES = ("tile", "annotation", "detection", "cell")


@dataclass
class PathObject:
    """An object as QuPath holds it."""

    type: str
    roi: BaseGeometry
    name: str | None
    colour: tuple[int, int, int] | None
    path_class: tuple[tuple[str, ...], tuple[int, int, int] | None] | None
    measurements: dict[str, float] = field(default_factory=dict)
    metadata: dict[str, str] = field(default_factory=dict)
    locked: bool = False


def read(path: Path) -> list[PathObject]:
    """Return the objects of a file."""
    content = json.loads(path.read_text(encoding="utf-8"))
    # A collection's "features" are read where they are an array; without them the file is empty, without a word.
    assert isinstance(content["features"], list)
    return [_object(feature) for feature in content["features"]]


def measurement_table(objects: list[PathObject], of_type: str) -> list[str]:
    """Return the columns of numbers in the measurement table of a type: all names of its objects, in order."""
    return list(dict.fromkeys(name for each in objects if each.type == of_type for name in each.measurements))


def _object(feature: dict[str, Any]) -> PathObject:
    properties = feature["properties"]
    # "objectType" is read first, then the old "object_type", then "type"; an unknown one becomes an annotation.
    assert properties["objectType"] in TYPES
    measurements = properties.get("measurements", {})
    # An object is read as a map of strings to doubles; one text among them fails the whole file.
    assert all(type(value) in (int, float) for value in measurements.values())
    metadata = properties.get("metadata", {})
    # Only primitives are kept, as texts.
    assert all(isinstance(value, str) for value in metadata.values())
    found = _class(properties["classification"]) if "classification" in properties else None
    colour = _rgb(properties["color"]) if "color" in properties else None
    roi = _roi(feature["geometry"])
    locked = properties.get("isLocked", False)
    return PathObject(
        properties["objectType"], roi, properties.get("name"), colour, found, dict(measurements), dict(metadata), locked
    )


def _class(content: Any) -> tuple[tuple[str, ...], tuple[int, int, int] | None]:
    """Return the names of a class, from the outermost, and its colour."""
    # An object without "color", or with the "colorRGB" of before 0.4, is read in other ways or not at all.
    assert {"name", "color"} <= set(content)
    assert "colorRGB" not in content
    # A name is split at each colon into classes within classes, and the parts are stripped; a part has one line.
    names = tuple(part.strip() for part in content["name"].split(":"))
    assert all(names)
    assert "\n" not in content["name"]
    return names, _rgb(content["color"])


def _rgb(content: Any) -> tuple[int, int, int]:
    """Return a colour: an array of three is packed as red, green and blue, one of another length is ignored."""
    assert len(content) == 3
    assert all(type(part) is int and 0 <= part <= 255 for part in content)
    return tuple(content)


def _roi(content: dict[str, Any]) -> BaseGeometry:
    """Return a geometry; the ring of a polygon must be closed, or the reader's geometry library refuses the file."""
    assert content["type"] in ("Point", "MultiPoint", "LineString", "MultiLineString", "Polygon", "MultiPolygon")
    for ring in content["coordinates"] if content["type"] == "Polygon" else ():
        assert len(ring) >= 4
        assert ring[0] == ring[-1]
    roi = shape(content)
    assert roi.is_valid
    return roi
