import json

import numpy as np
import pytest

from milpath.inference.geojson import tiles_to_geojson, write_geojson


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
        np.array([0.0, 1.0]), np.array([0, 1]), np.array([0, 1]), 1, measurements={"rank": np.array([2, 1])}
    )
    write_geojson(collection, tmp_path / "slide.geojson")
    read = json.loads((tmp_path / "slide.geojson").read_text())
    assert read["type"] == "FeatureCollection"
    assert [feature["type"] for feature in read["features"]] == ["Feature"] * 2
    properties = read["features"][1]["properties"]
    assert properties["objectType"] == "tile"
    assert properties["measurements"] == {"attention": 1.0, "rank": 1.0}
    assert properties["color"] == [253, 231, 36]


def test_a_tile_that_lies_nowhere_is_left_out_and_the_others_keep_their_number():
    collection = tiles_to_geojson(np.array([0.5, 0.5]), np.array([np.nan, 3]), np.array([np.nan, 4]), 2)
    assert [feature["properties"]["name"] for feature in collection["features"]] == ["tile 1"]


def test_a_slide_without_tiles_is_an_empty_collection():
    assert tiles_to_geojson(np.zeros(0), np.zeros(0), np.zeros(0), 128)["features"] == []


def test_a_weight_that_is_no_number_is_not_written(tmp_path):
    collection = tiles_to_geojson(np.array([np.nan]), np.array([0]), np.array([0]), 128)
    with pytest.raises(ValueError, match="JSON compliant"):
        write_geojson(collection, tmp_path / "slide.geojson")
    assert not list(tmp_path.iterdir())
