"""XML for ASAP: tiles as polygons in groups of the rank of their attention, and the answer for the slide."""

import re
from pathlib import Path
from xml.etree.ElementTree import Element, SubElement, indent, tostring

import numpy as np
from numpy.typing import NDArray

from milpath.inference.annotations.attention_classes import CLASSES, attention_classes, class_colour
from milpath.inference.annotations.slide_answer import SlideAnswer
from milpath.records.atomic_files import write_bytes

# Characters that XML 1.0 cannot hold, not even as a reference; the name of a slide may be anything.
_NOT_IN_XML = re.compile("[^\t\n\r\u0020-\ud7ff\ue000-\ufffd\U00010000-\U0010ffff]")
_ANSWER_COLOUR = "#1f77b4"


def tiles_to_asap(
    weights: NDArray[np.floating],
    x0: NDArray[np.floating],
    y0: NDArray[np.floating],
    size0: float,
    ranks: NDArray[np.int64],
    num_ranked: int,
    answer: SlideAnswer | None = None,
    warning: str = "",
    colour_map: str = "viridis",
) -> Element:
    """Return the annotations of a slide as ASAP stores them.

    Coordinates are pixels of level 0 of the whole plane: unlike QuPath, ASAP does not crop a slide to its scanned area.

    Args:
        weights: `(tiles,)` attention.
        x0: `(tiles,)` left edges in pixels of level 0; tiles with NaN have no position and are omitted.
        y0: `(tiles,)` top edges likewise.
        size0: Side of a tile in the same pixels.
        ranks: `(tiles,)` ranks of the attention in the bag, see `attention_ranks`.
        num_ranked: Number of tiles of the bag.
        answer: The answer for the slide: a rectangle around the tiles in a group of its own; `None` writes none.
        warning: What the training data say against themselves, an attribute of each group.
        colour_map: One of `milpath.drawing.picture_frame.COLOUR_MAPS`.
    """
    root = Element("ASAP_Annotations")
    annotations, groups = SubElement(root, "Annotations"), SubElement(root, "AnnotationGroups")
    colours = ["#{:02x}{:02x}{:02x}".format(*class_colour(each, colour_map)) for each in CLASSES]
    placed = np.flatnonzero(~(np.isnan(x0) | np.isnan(y0)))
    of_tile = attention_classes(ranks, num_ranked)
    for index in placed.tolist():
        left, top, group = float(x0[index]), float(y0[index]), of_tile[index]
        name = f"tile {index}, attention {weights[index]:.4g}, rank {ranks[index]} of {num_ranked}"
        _polygon(annotations, name, CLASSES[group].name, colours[group], (left, top, left + size0, top + size0))
    for of_class, colour in zip(CLASSES, colours, strict=True):
        _group(groups, of_class.name, colour, warning)
    if answer is not None and len(placed):
        name = f"{answer.bag_id}: {answer.in_words()}"
        edges = (x0[placed].min(), y0[placed].min(), x0[placed].max() + size0, y0[placed].max() + size0)
        _polygon(annotations, name, "Answer", _ANSWER_COLOUR, edges)
        _group(groups, "Answer", _ANSWER_COLOUR, warning)
    return root


def write_asap(root: Element, path: Path) -> None:
    """Write annotations atomically."""
    indent(root, "\t")
    write_bytes(path, tostring(root, encoding="utf-8", xml_declaration=True) + b"\n")


def _polygon(parent: Element, name: str, group: str, colour: str, edges: tuple[float, float, float, float]) -> None:
    """Add a rectangle; "Polygon" is also read by versions of ASAP without the type "Rectangle"."""
    words = {"Name": _in_xml(name), "Type": "Polygon", "PartOfGroup": group, "Color": colour}
    coordinates = SubElement(SubElement(parent, "Annotation", words), "Coordinates")
    left, top, right, bottom = edges
    for order, (x, y) in enumerate(((left, top), (right, top), (right, bottom), (left, bottom))):
        SubElement(coordinates, "Coordinate", {"Order": str(order), "X": f"{x:.10g}", "Y": f"{y:.10g}"})


def _group(parent: Element, name: str, colour: str, warning: str) -> None:
    """Add a group."""
    group = SubElement(parent, "Group", {"Name": name, "PartOfGroup": "None", "Color": colour})
    attributes = SubElement(group, "Attributes")
    if warning:
        SubElement(attributes, "Attribute", {"warning": _in_xml(warning)})


def _in_xml(text: str) -> str:
    return _NOT_IN_XML.sub("\ufffd", text)
