"""Features whose files do not say where their tiles lie on the slide, with the slide at hand."""

import json
import logging
import re

import numpy as np
import pytest
import tifffile
from PIL import Image

from milpath.data.sources.features.loose_features import build_feature_store
from milpath.data.store.bag_store import BagStore
from milpath.data.store.level0_positions import level0_positions, resolution_of
from milpath.inference.annotations.annotation_files import AnnotationFiles
from milpath.inference.annotations.slide_answer import SlideAnswer
from milpath.inference.pictures.tile_pixels import slide_paths, slide_picture, tile_pixels
from milpath.inference.predict_bags import BagPrediction
from milpath.inference.slide_page.slide_pages import SlidePages
from milpath.inference.slides_of_bags import tile_rows
from milpath.reports.pictures import without_pictures
from tests.feature_files import write_clam, write_stamp, write_trident
from tests.mirax import SIDE, write_mirax
from tests.pyramids import write_pyramid

GRID = np.array([(column, row) for row in range(2, 5) for column in range(3, 7)])


def open_features(folder, name="features") -> BagStore:
    build_feature_store(folder / name, folder / "store")
    return BagStore.open(folder / "store")


def draw_slide(folder, name="a"):
    """A slide of 512 x 384 px at 0.5 microns per pixel, red where the tile in column 5 and row 3 of a grid of 64 px is."""
    last = np.full((96, 128, 3), 220, np.uint8)
    last[3 * 16 : 4 * 16, 5 * 16 : 6 * 16] = (200, 0, 0)
    return write_pyramid(folder / f"slides/{name}.tif", last)


def test_positions_in_microns_are_found_on_the_slide(tmp_path):
    write_stamp(tmp_path / "features/a.h5", np.ones((12, 4)), GRID * 32.0, tile_size_um=32.0, tile_size_px=96)
    write_stamp(tmp_path / "features/elsewhere.h5", np.ones((12, 4)), GRID * 32.0, tile_size_um=32.0, tile_size_px=96)
    draw_slide(tmp_path)
    store = open_features(tmp_path)
    assert level0_positions(store, store.tile_slice(0)) is None
    assert "give slides_dir=DIR" in without_pictures(store, {})
    slides = slide_paths(store, tmp_path / "slides")
    places = level0_positions(store, store.tile_slice(0))
    np.testing.assert_allclose(np.stack(places[:2], 1), GRID * 64, atol=1e-3)
    assert places.size0 == pytest.approx(64)
    assert level0_positions(store, store.tile_slice(1)) is None
    assert without_pictures(store, slides) == ""
    rows = tile_rows(store, 0)
    np.testing.assert_allclose(rows[["x0", "y0"]], GRID * 64, atol=1e-3)
    assert tile_rows(store, 1)[["x0", "y0", "size0"]].isna().all(axis=None)
    tiles = tile_pixels(store, 0, slides)
    red = [np.abs(tile.astype(int) - (200, 0, 0)).sum(axis=2).mean() < 30 for tile in tiles[range(12)]]
    assert GRID[np.flatnonzero(red)].tolist() == [[5, 3]]


def test_tiles_of_another_size_in_microns_are_found_by_the_size_of_their_own_slide(tmp_path):
    sides = {"a": 32.0, "b": 36.0}
    for name, side in sides.items():
        write_stamp(tmp_path / f"features/{name}.h5", np.ones((12, 4)), GRID * side, tile_size_um=side, tile_size_px=96)
        draw_slide(tmp_path, name)
    store = open_features(tmp_path)
    slide_paths(store, tmp_path / "slides")
    for index, side in enumerate(sides.values()):
        places = level0_positions(store, store.tile_slice(index))
        np.testing.assert_allclose(np.stack(places[:2], 1), GRID * side / 0.5, atol=1e-3)
        assert places.size0 == pytest.approx(side / 0.5)
        assert resolution_of(store, store.tile_slice(index))[0] == pytest.approx(side / 96)


def test_tiles_that_were_enlarged_show_what_they_cover(tmp_path):
    """Of a slide at 20x that TRIDENT cut at 40x."""
    said = {"patch_size": 128, "level0_magnification": 20, "target_magnification": 40}
    write_trident(tmp_path / "features/a.h5", np.ones((12, 4)), GRID * 64, **said)
    draw_slide(tmp_path)
    store = open_features(tmp_path)
    tiles = tile_pixels(store, 0, slide_paths(store, tmp_path / "slides"))
    assert tiles.shape == (12, 128, 128, 3)
    bag, answer = BagPrediction(0, "a", np.ones(1), np.full(12, 1 / 12)), SlideAnswer("a", "1", False, {})
    pages = SlidePages(store, slide_paths(store, tmp_path / "slides"), "viridis", "", 10**8)
    assert pages.write(tmp_path, bag, "a", answer)
    assert "The image is reduced" not in (tmp_path / "viewer/slides/a.html").read_text()
    red = [np.abs(tile.astype(int) - (200, 0, 0)).sum(axis=2).mean() < 30 for tile in tiles[range(12)]]
    assert GRID[np.flatnonzero(red)].tolist() == [[5, 3]]


def test_a_slide_on_which_tiles_do_not_fit_is_named(tmp_path, caplog):
    write_stamp(tmp_path / "features/a.h5", np.ones((12, 4)), GRID * 256.0)
    draw_slide(tmp_path)
    store = open_features(tmp_path)
    with caplog.at_level(logging.WARNING):
        slide_paths(store, tmp_path / "slides")
    assert level0_positions(store, store.tile_slice(0)) is None
    assert "1 of 1 slides at hand have no pictures (first: 'a')" in caplog.text
    assert "states no microns per pixel that fit them" in caplog.text


@pytest.mark.parametrize("write", [write_stamp, write_trident])
def test_a_thumbnail_beside_the_features_is_not_the_slide(write, tmp_path, caplog):
    """STAMP and TRIDENT write them under the name of the slide."""
    write(tmp_path / "features/a.h5", np.ones((12, 4)), GRID * 256)
    write(tmp_path / "features/b.h5", np.ones((12, 4)), GRID * 256)
    Image.new("RGB", (512, 384)).save(tmp_path / "features/a.jpg")
    (tmp_path / "features/b.jpg").touch()
    store = open_features(tmp_path)
    with caplog.at_level(logging.WARNING):
        assert slide_paths(store, tmp_path / "features") == {}
    assert not caplog.text


def test_features_without_a_tile_size_say_why_they_have_no_pictures(tmp_path, caplog):
    write_clam(tmp_path, "a", np.ones((12, 4)), GRID * 64)
    draw_slide(tmp_path)
    store = open_features(tmp_path, "FEATURES")
    with caplog.at_level(logging.WARNING):
        slides = slide_paths(store, tmp_path / "slides")
    assert "patch_size_level0" in caplog.text
    assert "patch_size_level0" in without_pictures(store, slides)


def test_outlines_for_qupath_count_from_the_scanned_area(tmp_path):
    """QuPath crops MRXS to it; the positions of TRIDENT are those of the whole plane."""
    coords = GRID * 64 + np.array([2 * SIDE, SIDE])
    write_trident(tmp_path / "features/a.h5", np.ones((12, 4)), coords, patch_size=32)
    write_mirax(tmp_path / "slides/a.mrxs", np.full((2 * SIDE, 2 * SIDE, 3), 200, np.uint8), offset=(2, 1))
    store = open_features(tmp_path)
    slide_paths(store, tmp_path / "slides")
    bag = BagPrediction(0, "a", np.ones(1), np.full(12, 1 / 12))
    AnnotationFiles(store, tmp_path, ("geojson",)).write(bag, "a")
    first = json.loads((tmp_path / "geojson/a.geojson").read_text())["features"][0]["geometry"]["coordinates"][0]
    assert np.min(first, axis=0).tolist() == (GRID[0] * 64).tolist()
    np.testing.assert_array_equal(level0_positions(store, store.tile_slice(0)).x0, coords[:, 0])


def test_a_slide_of_the_same_name_that_is_too_small_for_the_tiles_is_not_drawn(tmp_path, caplog):
    """The slide reduced to half of its size, as converters leave it."""
    write_trident(tmp_path / "features/a.h5", np.ones((12, 4)), GRID * 128, patch_size=64)
    draw_slide(tmp_path)
    store = open_features(tmp_path)
    slides = slide_paths(store, tmp_path / "slides")
    assert tile_pixels(store, 0, slides) is None
    assert slide_picture(store, 0, slides, 500) is None
    assert caplog.text.count("a.tif is not the slide from which the tiles of 'a' were cut, and is not drawn") == 1
    bag, answer = BagPrediction(0, "a", np.ones(1), np.full(12, 1 / 12)), SlideAnswer("a", "1", False, {})
    assert not SlidePages(store, slides, "viridis", "", 10**8).write(tmp_path, bag, "a", answer)


def test_a_scale_bar_follows_the_slide_rather_than_the_nominal_magnification(tmp_path):
    """TRIDENT calls 0.31 microns per pixel 20x, which is nominally 0.5."""
    write_trident(tmp_path / "features/a.h5", np.ones((12, 4)), GRID * 64, level0_magnification=20, patch_size=64)
    picture = np.full((384, 512, 3), 220, np.uint8)
    tags = {"resolution": (10_000 / 0.31,) * 2, "resolutionunit": "CENTIMETER"}
    (tmp_path / "slides").mkdir()
    tifffile.imwrite(tmp_path / "slides/a.tif", picture, tile=(64, 64), photometric="rgb", metadata=None, **tags)
    store = open_features(tmp_path)
    slides = slide_paths(store, tmp_path / "slides")
    assert slide_picture(store, 0, slides, 256).microns_per_pixel == pytest.approx(0.62)
    bag, answer = BagPrediction(0, "a", np.ones(1), np.full(12, 1 / 12)), SlideAnswer("a", "1", False, {})
    SlidePages(store, slides, "viridis", "", 10**8).write(tmp_path, bag, "a", answer)
    stated = re.search(r'"microns_per_pixel":([0-9.]+)', (tmp_path / "viewer/slides/a.html").read_text())
    assert float(stated[1]) == pytest.approx(0.31)


@pytest.mark.parametrize(("microns", "drawn"), [(0.25, False), (0.31, True), (0.59, True), (1.0, False), (None, True)])
def test_a_slide_of_the_same_name_with_another_resolution_is_not_drawn(tmp_path, microns, drawn):
    """Reduced or enlarged, with all tiles within its edges; scanners of one magnification differ in their resolution."""
    write_trident(tmp_path / "features/a.h5", np.ones((12, 4)), GRID * 32, level0_magnification=20, patch_size=32)
    tags = {} if microns is None else {"resolution": (10_000 / microns,) * 2, "resolutionunit": "CENTIMETER"}
    (tmp_path / "slides").mkdir()
    picture = np.full((384, 512, 3), 220, np.uint8)
    tifffile.imwrite(tmp_path / "slides/a.tif", picture, tile=(64, 64), photometric="rgb", metadata=None, **tags)
    store = open_features(tmp_path)
    picture = slide_picture(store, 0, slide_paths(store, tmp_path / "slides"), 256)
    assert (picture is not None) is drawn
