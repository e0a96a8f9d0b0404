"""XML for ASAP, read by the rules of its own reader, `annotation/XmlRepository.cpp`."""

from xml.etree import ElementTree

import numpy as np

from milpath.inference.annotations.asap_xml import tiles_to_asap, write_asap
from milpath.inference.annotations.attention_classes import CLASSES, attention_ranks
from milpath.inference.annotations.slide_answer import SlideAnswer

# `_typeStrings` in `annotation/Annotation.cpp`; another word leaves the type at None, and nothing is drawn.
TYPES = ("Dot", "Polygon", "Spline", "PointSet", "Measurement", "Rectangle")


def read_as_asap(path):
    """Return groups, name to colour and attributes, and annotations, name to group, colour and points."""
    root = ElementTree.parse(path).getroot()
    assert root.tag == "ASAP_Annotations"
    groups = {}
    for group in root.find("AnnotationGroups"):
        attributes = {name: value for each in group.find("Attributes") for name, value in each.attrib.items()}
        assert group.get("PartOfGroup") == "None"
        groups[group.get("Name")] = (group.get("Color"), attributes)
    found = {}
    for annotation in root.find("Annotations"):
        assert annotation.get("Type") in TYPES
        # One annotation of an unknown group, and the reader takes away all of them.
        assert annotation.get("PartOfGroup") in groups
        points = {int(point.get("Order")): (float(point.get("X")), float(point.get("Y"))) for point in annotation[0]}
        # The order is used as an index without a check.
        assert sorted(points) == list(range(len(points)))
        place = [points[order] for order in range(len(points))]
        found[annotation.get("Name")] = (annotation.get("PartOfGroup"), annotation.get("Color"), place)
    return groups, found


def test_asap_reads_every_tile_in_the_group_of_its_rank_and_the_answer_in_its_own(tmp_path):
    weights = np.array([0.6, 0.3, 0.06, 0.04])
    x0, y0 = np.array([0.0, 100_000.5, np.nan, 64.0]), np.array([0.0, 64.0, np.nan, 64.0])
    answer = SlideAnswer("a <b> & \0", "tumour", True, {"probability_tumour": "0.61"})
    root = tiles_to_asap(weights, x0, y0, 64.0, attention_ranks(weights), 4, answer, warning="drawn <slides>")
    write_asap(root, tmp_path / "a.xml")
    groups, found = read_as_asap(tmp_path / "a.xml")
    assert list(groups) == [*(of_class.name for of_class in CLASSES), "Answer"]
    assert all(attributes == {"warning": "drawn <slides>"} for _, attributes in groups.values())
    assert len({colour for colour, _ in groups.values()}) == 4
    assert all(groups[group][0] == colour for group, colour, _ in found.values())
    names = [each.name for each in CLASSES]
    assert [group for group, *_ in found.values()] == [names[0], names[1], names[2], "Answer"]
    assert found["tile 1, attention 0.3, rank 2 of 4"][2] == [
        (100_000.5, 64.0), (100_064.5, 64.0), (100_064.5, 128.0), (100_000.5, 128.0),
    ]  # fmt: skip
    (said,) = [name for name, (group, *_) in found.items() if group == "Answer"]
    assert said == "a <b> & \ufffd: tumour, probability 0.610; refer to a person"
    assert found[said][2] == [(0.0, 0.0), (100_064.5, 0.0), (100_064.5, 128.0), (0.0, 128.0)]


def test_a_slide_without_tiles_has_groups_and_no_annotation(tmp_path):
    nothing = np.zeros(0)
    write_asap(tiles_to_asap(nothing, nothing, nothing, 64.0, attention_ranks(nothing), 0), tmp_path / "a.xml")
    groups, found = read_as_asap(tmp_path / "a.xml")
    assert (len(groups), len(found)) == (3, 0)
