"""Slides found under the names of the bags of a store of tiles."""

import shutil

import numpy as np
import pytest
from PIL import Image

from milpath.data.store.bag_store import BagStore
from milpath.inference.pictures.bag_pictures import BagPictures
from milpath.inference.pictures.tile_pixels import slide_paths, slide_picture
from milpath.inference.predict_bags import BagPrediction
from milpath.slides.tiling_options import TileOptions
from milpath.tiling.slide_bags import build_slide_store
from tests.ome_zarr import write_ome_zarr
from tests.pyramids import tissue, write_pyramid

OPTIONS = TileOptions(method="tissue", num_tiles=4, tile_size=32)
PICTURE = tissue(160, 120, 3)


def cut(slides, output) -> BagStore:
    build_slide_store(slides, output, OPTIONS, num_workers=1)
    return BagStore.open(output)


def test_a_slide_that_is_a_folder_is_at_hand(tmp_path):
    slide = write_ome_zarr(tmp_path / "slides/a.zarr", PICTURE)
    for slides in (tmp_path / "slides", slide):
        store = cut(slides, tmp_path / f"store of {slides.name}")
        found = slide_paths(store, slides)
        assert dict(found) == {"a": slide}
        assert slide_picture(store, 0, found, 500).scale == pytest.approx(500 / 640)


@pytest.mark.parametrize("factor", [0.5, 2])
def test_another_slide_under_the_name_of_the_one_that_was_cut_is_not_drawn(tmp_path, factor, caplog):
    write_pyramid(tmp_path / "slides/a.tif", PICTURE)
    store = cut(tmp_path / "slides", tmp_path / "store")
    small = Image.fromarray(PICTURE).resize((int(120 * factor), int(160 * factor)))
    write_pyramid(tmp_path / "other/a.tif", np.asarray(small))
    slides = slide_paths(store, tmp_path / "other")
    assert slide_picture(store, 0, slides, 500) is None
    assert (bool(slides), len(slides), dict(slides)) == (True, 0, {})
    assert "a.tif is not the slide from which the tiles of 'a' were cut, and is not drawn" in caplog.text


def test_the_slide_that_was_cut_is_drawn_also_after_it_was_compressed_again(tmp_path, caplog):
    write_pyramid(tmp_path / "slides/a.tif", PICTURE)
    store = cut(tmp_path / "slides", tmp_path / "store")
    shutil.rmtree(tmp_path / "slides")
    write_pyramid(tmp_path / "slides/a.tif", PICTURE, compression="jpeg")
    assert slide_picture(store, 0, slide_paths(store, tmp_path / "slides"), 500) is not None
    assert not caplog.text


@pytest.mark.parametrize("turned", [False, True])
def test_a_mask_of_another_shape_is_not_stretched_over_the_slide(tmp_path, turned, caplog):
    write_pyramid(tmp_path / "slides/a.tif", PICTURE)
    (tmp_path / "labels.csv").write_text("slide_id,data_provider\na,karolinska\n")
    build_slide_store(tmp_path / "slides", tmp_path / "store", OPTIONS, labels=tmp_path / "labels.csv", num_workers=1)
    store = BagStore.open(tmp_path / "store")
    # Half of it is cancer; a mask of another size but of the same shape is that of the slide.
    values = np.zeros((81, 60, 3), np.uint8)
    values[:40] = 2
    mask = write_pyramid(tmp_path / "masks/a.tif", values.swapaxes(0, 1).copy() if turned else values, factors=(1,))
    pictures = BagPictures(store, tmp_path, slide_paths(store, tmp_path / "slides"), {"a": mask})
    bag = BagPrediction(0, "a", np.ones(1), np.full(store.num_tiles[0], 1 / store.num_tiles[0]))
    picture = pictures.slide_picture(bag)
    drawn = pictures.overlay(bag, picture)
    plain = BagPictures(store, tmp_path).overlay(bag, picture)
    assert (drawn.width > plain.width) is not turned
    assert ("a.tif has 81 x 60 px, another shape than its slide" in caplog.text) is turned
