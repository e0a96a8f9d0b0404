import json

import geojson
import numpy as np
import pytest
from shapely.geometry import shape

from milpath.inference.annotations.attention_classes import CLASSES
from milpath.inference.annotations.geojson import tiles_to_geojson, write_geojson
from milpath.inference.annotations.slide_answer import SlideAnswer
from tests import qupath_rules

CELLS = {
    "probability_benign": "0.25", "probability_malignant": "0.75", "predicted": "malignant", "threshold": "0.4",
    "defer": "1", "set": "1", "fold_spread": "", "warning": "trained on synthetic slides",
}  # fmt: skip
ANSWER = SlideAnswer("slide: 7", "malignant: grade 3", True, CELLS)


def test_outlines_are_closed_squares_in_pixels_of_level_zero():
    x, y = np.array([-8, 128, 256]), np.array([0, 512, 40])
    features = tiles_to_geojson(np.array([0.2, 0.5, 0.3]), x, y, tile_size=128, downsample=4.0)["features"]
    for feature, left, top in zip(features, x, y, strict=True):
        ring = np.array(feature["geometry"]["coordinates"][0])
        assert ring.shape == (5, 2)
        assert (ring[0] == ring[-1]).all()
        assert ring.min(axis=0).tolist() == [4 * left, 4 * top]
        assert (ring.max(axis=0) - ring.min(axis=0)).tolist() == [512, 512]


def test_qupath_finds_type_measurement_and_colour_where_it_reads_them(tmp_path):
    collection = tiles_to_geojson(
        np.array([0.0, 1.0]), np.array([0, 1]), np.array([0, 1]), 1, measurements={"other": np.array([2, 1])}
    )
    write_geojson(collection, tmp_path / "slide.geojson")
    read = json.loads((tmp_path / "slide.geojson").read_text())
    assert read["type"] == "FeatureCollection"
    assert [feature["type"] for feature in read["features"]] == ["Feature"] * 2
    properties = read["features"][1]["properties"]
    assert properties["objectType"] == "tile"
    assert properties["measurements"] == {"attention": 1.0, "attention rank": 1.0, "other": 1.0}
    assert properties["color"] == [253, 231, 36]


def _written(tmp_path, **words):
    """Write ten tiles in two rows."""
    weights = np.array([0.01, 0.3, 0.02, 0.2, 0.1, 0.05, 0.06, 0.07, 0.09, 0.1])
    x, y = np.arange(10) % 5 * 64, np.arange(10) // 5 * 64
    collection = tiles_to_geojson(weights, x, y, 64, 2.0, answer=ANSWER, **words)
    write_geojson(collection, tmp_path / "slide.geojson")
    return weights, tmp_path / "slide.geojson"


def test_qupath_reads_tiles_of_three_classes_and_one_annotation_with_the_answer(tmp_path):
    weights, path = _written(tmp_path, warning="trained on synthetic slides", measurements={"attention_a": np.ones(10)})
    *tiles, answer = qupath_rules.read(path)
    assert [each.type for each in tiles] == ["tile"] * 10
    assert [each.measurements["attention"] for each in tiles] == weights.tolist()
    by_class = {of_class.name: [] for of_class in CLASSES}
    for each in tiles:
        (name,), _ = each.path_class
        by_class[name].append(each.measurements["attention"])
        assert each.metadata == {"warning": "trained on synthetic slides"}
    assert list(by_class.values()) == [[0.3], [0.2, 0.1, 0.09, 0.1], [0.01, 0.02, 0.05, 0.06, 0.07]]
    assert len({each.path_class for each in tiles}) == 3, "one colour per class"
    assert answer.type == "annotation"
    assert answer.locked
    assert answer.roi.bounds == (0, 0, 640, 256)
    assert answer.name == "slide: 7: malignant: grade 3; refer to a person"
    assert answer.path_class[0] == ("malignant grade 3",), "no class within a class"
    assert answer.metadata == {
        "bag": "slide: 7", "predicted": "malignant", "set": "1", "warning": "trained on synthetic slides",
    }  # fmt: skip


def test_the_measurement_tables_of_qupath_have_the_names_of_the_tables_of_the_prediction(tmp_path):
    _, path = _written(tmp_path, measurements={"attention_a": np.ones(10)})
    objects = qupath_rules.read(path)
    assert qupath_rules.measurement_table(objects, "tile") == ["attention", "attention rank", "attention_a"]
    numbers = ["probability_benign", "probability_malignant", "threshold", "defer"]
    assert qupath_rules.measurement_table(objects, "annotation") == numbers
    assert objects[-1].measurements["probability_malignant"] == 0.75


def test_the_file_goes_through_geojson_and_shapely_unchanged(tmp_path):
    _, path = _written(tmp_path)
    read = geojson.loads(path.read_text())
    assert read.is_valid, read.errors()
    again = json.loads(geojson.dumps(read))
    assert again == json.loads(path.read_text())
    shapes = [shape(feature["geometry"]) for feature in again["features"]]
    assert all(each.is_valid and each.area == 128**2 for each in shapes[:-1])
    assert sum(each.area for each in shapes[:-1]) == shapes[-1].area, "the answer is around the tiles"


def test_the_name_of_the_annotation_of_several_targets_has_the_call_of_each():
    cells = {"a/probability_0": "0.4", "a/probability_1": "0.6", "b/probability_0": "0.7", "b/probability_1": "0.3"}
    cells |= {"a/predicted": "1", "a/defer": "1", "b/predicted": "0", "b/defer": "0", "unfamiliar": "0"}
    words = "a 1, probability 0.600, refer to a person; b 0, probability 0.700"
    assert SlideAnswer("s", cells=cells).in_words() == words
    more = SlideAnswer("s", "", True, cells | {"age/predicted_age": "61.5", "unfamiliar": "1", "unfamiliarity": "99"})
    assert more.in_words() == f"{words}; age/predicted_age 61.5; refer to a person: unfamiliar"


def test_equal_weights_are_all_in_the_lowest_class_and_the_best_of_a_few_tiles_in_the_highest():
    def names(weights):
        weights = np.array(weights)
        collection = tiles_to_geojson(weights, np.arange(len(weights)), np.zeros(len(weights)), 1)
        return [feature["properties"]["classification"]["name"] for feature in collection["features"]]

    top, middle, low = (of_class.name for of_class in CLASSES)
    assert names([0.25] * 4) == [low] * 4
    assert names([0.7, 0.1, 0.1, 0.1]) == [top, low, low, low]
    assert names([0.6, 0.3, 0.06, 0.04]) == [top, middle, low, low]
    assert names([1.0]) == [top]


def test_a_tile_that_lies_nowhere_is_left_out_and_the_others_keep_their_number():
    collection = tiles_to_geojson(np.array([0.5, 0.5]), np.array([np.nan, 3]), np.array([np.nan, 4]), 2)
    assert [feature["properties"]["name"] for feature in collection["features"]] == ["tile 1"]


def test_a_slide_without_tiles_is_an_empty_collection():
    assert tiles_to_geojson(np.zeros(0), np.zeros(0), np.zeros(0), 128, answer=ANSWER)["features"] == []


def test_a_weight_that_is_no_number_is_not_written(tmp_path):
    collection = tiles_to_geojson(np.array([np.nan]), np.array([0]), np.array([0]), 128)
    with pytest.raises(ValueError, match="JSON compliant"):
        write_geojson(collection, tmp_path / "slide.geojson")
    assert not list(tmp_path.iterdir())
