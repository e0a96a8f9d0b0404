"""The places of tiles on their slide, in pixels of level 0 as OpenSlide counts them."""

import json

import numpy as np
import openslide
import pandas as pd
import pytest
import tifffile

from milpath.data.store.bag_store import BagStore
from milpath.data.store.level0_positions import bounds_offset, level0_positions
from milpath.inference.pictures.bag_pictures import BagPictures
from milpath.inference.pictures.tile_pixels import slide_paths
from milpath.inference.predict_bags import BagPrediction
from milpath.slides.tiling_options import TileOptions
from milpath.tiling.slide_bags import build_slide_store
from tests.dicom_files import write_dicom_slide
from tests.mirax import write_mirax
from tests.pyramids import tissue, write_pyramid


def _store(path, folder, **words):
    build_slide_store(path, folder, TileOptions(method="tissue", num_tiles=None, **words), num_workers=1)
    return BagStore.open(folder)


@pytest.mark.parametrize("words", [{"microns_per_pixel": 2.0}, {"microns_per_pixel": 0.8}, {"level": 1}, {"level": 0}])
def test_the_pixels_of_a_tile_are_at_its_place_on_level_0(tmp_path, words):
    # Levels of a third and a ninth: the tiles of the first two are resampled.
    path = write_pyramid(tmp_path / "slide.tif", tissue(130, 110, seed=3), factors=(9, 3, 1))
    store = _store(path, tmp_path / "store", tile_size=32, **words)
    places = level0_positions(store, store.tile_slice(0))
    row = store.bags.iloc[0]
    assert store.tiles_table["size0"].unique().tolist() == [round(32 * row["downsample"])]
    with openslide.OpenSlide(path) as slide:
        for tile, x0, y0 in zip(store.tiles, places.x0.astype(int), places.y0.astype(int), strict=True):
            region = slide.read_region((x0, y0), 0, (int(places.size0),) * 2).convert("RGBA")
            canvas = np.asarray(region).astype(float)
            # Where the tile ends outside the slide, OpenSlide has transparent pixels.
            seen = canvas[..., 3:] > 0
            mean = np.where(seen, canvas[..., :3], 255).mean(axis=(0, 1))
            np.testing.assert_allclose(tile.mean(axis=(0, 1)), mean, atol=6)


def test_a_resampled_tile_keeps_its_position_in_both_kinds_of_pixels(tmp_path):
    path = write_pyramid(tmp_path / "slide.tif", tissue(130, 110, seed=3), factors=(9, 3, 1))
    table = _store(path, tmp_path / "store", tile_size=32, microns_per_pixel=2.0).tiles_table
    assert list(table) == ["bag_id", "x", "y", "level", "x0", "y0", "size0", "tissue_fraction"]
    # Level 1 has 1.5 microns per pixel, so x counts neither its pixels nor those of level 0.
    assert (table["level"] == 1).all()
    np.testing.assert_allclose(table["x0"], table["x"] * 4, atol=1)
    assert (table["size0"] == 128).all()


def test_white_filler_tiles_have_no_place(tmp_path):
    path = write_pyramid(tmp_path / "slide.tif", tissue(60, 60), factors=(2, 1))
    build_slide_store(path, tmp_path / "store", TileOptions(tile_size=64, num_tiles=3), num_workers=1)
    table = BagStore.open(tmp_path / "store").tiles_table
    assert table["x0"].isna().tolist() == table["size0"].isna().tolist() == [False, True, True]
    assert table["x0"][0] == table["x"][0] * 2


def test_outlines_of_a_mirax_slide_lie_where_qupath_shows_its_tissue(tmp_path):
    picture = tissue(64, 96, seed=5).repeat(8, 0).repeat(8, 1)
    path = write_mirax(tmp_path / "slides" / "case.mrxs", picture, offset=(2, 1))
    store = _store(path, tmp_path / "store", tile_size=64, level=0)
    where = store.tile_slice(0)
    assert bounds_offset(store, where) == (512, 256)
    places = level0_positions(store, where)
    # OpenSlide counts from the corner of the whole plane.
    with openslide.OpenSlide(path) as slide:
        found = np.asarray(slide.read_region((int(places.x0[0]), int(places.y0[0])), 0, (64, 64)))[..., :3]
    assert np.abs(found.astype(int) - store.tiles[0]).mean() < 2
    weights = np.full(len(places.x0), 1 / len(places.x0), np.float32)
    pictures = BagPictures(store, tmp_path, {"case": path})
    pictures.draw(BagPrediction(0, "case", np.array([0.5, 0.5], np.float32), weights))
    outlines = json.loads((tmp_path / "geojson/case.geojson").read_text())["features"]
    corners = np.array([feature["geometry"]["coordinates"][0][0] for feature in outlines])
    np.testing.assert_array_equal(corners, np.stack([places.x0 - 512, places.y0 - 256], axis=1))
    # QuPath crops the plane to its bounds: what it shows there is the tissue of the picture.
    for (left, top), tile in zip(corners.astype(int), store.tiles, strict=True):
        shown = np.full((64, 64, 3), 255, np.uint8)
        part = picture[max(top, 0) : top + 64, max(left, 0) : left + 64]
        shown[max(-top, 0) :, max(-left, 0) :][: part.shape[0], : part.shape[1]] = part
        assert np.abs(shown.astype(int) - tile).mean() < 8


@pytest.mark.parametrize("kind", ["mrxs", "dicom", "planes"])
def test_tiles_lie_on_their_tissue_in_the_overlay_of_every_kind_of_slide(tmp_path, kind):
    picture = tissue(64, 96, seed=5).repeat(8, 0).repeat(8, 1)
    if kind == "mrxs":
        slides = write_mirax(tmp_path / "slides/case.mrxs", picture, offset=(2, 1)).parent
    elif kind == "dicom":
        slides = write_dicom_slide(tmp_path / "slides/case", picture).parent
    else:
        slides = tmp_path / "slides"
        slides.mkdir()
        planes = np.ascontiguousarray(np.moveaxis(picture, 2, 0))
        words = {"photometric": "minisblack", "tile": (64, 64), "metadata": {"axes": "CYX", "PhysicalSizeX": 0.5}}
        tifffile.imwrite(slides / "case.tif", planes, ome=True, **words)
    store = _store(slides, tmp_path / "store", tile_size=32, microns_per_pixel=2.0)
    pictures = BagPictures(store, tmp_path / "out", slide_paths(store, slides))
    weights = np.full(len(store.tiles), 1 / len(store.tiles), np.float32)
    shown = pictures.slide_picture(BagPrediction(0, "case", np.array([0.5, 0.5], np.float32), weights))
    places = level0_positions(store, store.tile_slice(0))
    for x0, y0, tile in zip(places.x0, places.y0, store.tiles, strict=True):
        left, top, right, bottom = (
            round(value * shown.scale) for value in (x0, y0, x0 + places.size0, y0 + places.size0)
        )
        part = shown.pixels[max(top, 0) : bottom, max(left, 0) : right].reshape(-1, 3)
        white = (right - left) * (bottom - top) - len(part)  # outside of the slide
        mean = (part.sum(axis=0) + 255.0 * white) / ((right - left) * (bottom - top))
        assert np.abs(mean - tile.reshape(-1, 3).mean(axis=0)).max() < 12


def test_a_store_without_these_columns_is_placed_by_its_resolution(tmp_path):
    path = write_pyramid(tmp_path / "slide.tif", tissue(130, 110, seed=3), factors=(4, 1))
    store = _store(path, tmp_path / "store", tile_size=32, level=1)
    expected = level0_positions(store, store.tile_slice(0))
    old = BagStore(
        store.path, dict(store.description), store.bags.drop(columns=["bounds_x0", "bounds_y0"]), store.tiles
    )
    old.description["tile_columns"] = ["x", "y", "level", "tissue_fraction"]
    found = level0_positions(old, old.tile_slice(0))
    pd.testing.assert_frame_equal(pd.DataFrame(found._asdict()), pd.DataFrame(expected._asdict()))
    assert bounds_offset(old, old.tile_slice(0)) == (0, 0)
