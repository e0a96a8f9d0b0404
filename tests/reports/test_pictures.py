from dataclasses import replace

import numpy as np
import pytest
from PIL import Image

from milpath.data.store.bag_store import BagStore
from milpath.data.store.bag_store_writer import BagStoreWriter
from milpath.drawing.picture_frame import content_origin
from milpath.drawing.tile_numbers import numbers_of_top_tiles
from milpath.inference.pictures.overlays import NO_TILE, SlidePicture, draw_bag_overlay, put_together
from milpath.inference.pictures.sharpest_bags import draw_run_extremes
from milpath.records.digests import sha256_of_text
from milpath.records.prediction_table import Predictions
from milpath.reports.pictures import QUALITY, draw_cases
from tests.pyramids import tissue


def _store(folder, tile_rows, channels=3, size=32):
    with BagStoreWriter(folder / "store") as writer:
        for number in range(3):
            tiles = np.full((4, size, size, channels), 60 * (number + 1), np.uint8)
            writer.add(f"slide_{number}", tiles, {"label": number % 2}, tile_rows)
    return BagStore.open(folder / "store")


def _predictions(count=3, num_tiles=4):
    attention = [np.roll(np.array([0.4 + 0.1 * n, 0.3 - 0.1 * n, 0.2, 0.1]), n)[:num_tiles] for n in range(count)]
    probabilities = np.full((count, 2), 0.5)
    names = [f"slide_{n}" for n in range(count)]
    return Predictions(names, ["test"] * count, np.arange(count) % 2, probabilities, attention, ["benign", "malignant"])


PLACES = {"x": np.array([0, 32, 0, 320]), "y": np.array([0, 0, 32, 320]), "level": np.zeros(4, int)}


def test_tiles_put_together_lie_where_they_were_cut():
    slide = tissue(512, 512)
    x, y = np.array([0, 128, 384.0, np.nan]), np.array([0, 256, 384.0, np.nan])
    cut = [slide[int(t) : int(t) + 128, int(left) : int(left) + 128] for left, t in zip(x[:3], y[:3], strict=True)]
    picture, left, top = put_together(np.stack([*cut, np.zeros_like(cut[0])]), x + 1000, y - 50)
    assert (left, top, picture.scale) == (1000.0, -50.0, 1.0)
    for tile, tile_x, tile_y in zip(cut, x, y, strict=False):
        assert (picture.pixels[int(tile_y) : int(tile_y) + 128, int(tile_x) : int(tile_x) + 128] == tile).all()
    assert (picture.pixels[:128, 128:] == NO_TILE).all()


def test_a_slide_that_is_large_is_made_small():
    x = np.array([0.0, 9000.0])
    picture, _, _ = put_together(np.zeros((2, 100, 100, 1), np.uint8), x, np.zeros(2))
    assert picture.pixels.shape[1] == 700
    assert (picture.pixels[:, :7] == 0).all()
    assert (picture.pixels[:, 100:600] == NO_TILE).all()


def test_every_case_gets_montage_and_overlay(tmp_path):
    store = _store(tmp_path, PLACES)
    drawn = draw_cases(_predictions(), [2, 0], store, tmp_path / "report_files")
    assert set(drawn) == {"slide_2", "slide_0"}
    for files in drawn.values():
        for name in (files.montage, files.overlay):
            with Image.open(tmp_path / "report_files" / name) as picture:
                assert min(picture.size) > 100


def test_overlays_of_averaged_folds_say_how_far_these_agree(tmp_path):
    store, plain = _store(tmp_path, PLACES), _predictions()
    folder = tmp_path / "report_files"
    draw_cases(replace(plain, agreement=np.array([0.414, np.nan, 0.9])), [0, 1], store, folder)
    for row, title in ((0, "slide_0 · attention of folds agrees 0.41"), (1, "slide_1")):
        weights = plain.attention[row]
        numbers = numbers_of_top_tiles(weights)
        expected = draw_bag_overlay(store, store.tile_slice(row), weights, title, numbers=numbers)
        expected.save(tmp_path / "expected.jpg", quality=QUALITY)
        name = sha256_of_text(f"slide_{row}")[:16]
        assert (folder / f"{name}_overlay.jpg").read_bytes() == (tmp_path / "expected.jpg").read_bytes()


def test_pictures_of_a_killed_process_are_removed(tmp_path):
    (tmp_path / "report_files.partial-1").mkdir()
    draw_cases(_predictions(), [0], _store(tmp_path, PLACES), tmp_path / "report_files")
    assert [path.name for path in tmp_path.glob("report_files*")] == ["report_files"]


def test_without_positions_or_over_two_levels_there_is_a_montage_only(tmp_path):
    for number, rows in enumerate(
        (None, PLACES | {"level": np.array([0, 0, 1, 1])}, PLACES | {"x": np.full(4, np.nan)})
    ):
        store = _store(tmp_path / str(number), rows)
        drawn = draw_cases(_predictions(), [0], store, tmp_path / str(number) / "files")
        assert drawn["slide_0"].overlay is None


def test_the_picture_of_the_slide_is_used_where_there_is_one(tmp_path):
    store = _store(tmp_path, PLACES)
    slide = SlidePicture(np.full((88, 88, 3), (10, 200, 30), np.uint8), scale=0.25, microns_per_pixel=4.0)
    weights = np.array([0.7, 0.1, 0.1, 0.1])
    overlay = np.asarray(draw_bag_overlay(store, store.tile_slice(1), weights, "slide", slide))
    left, top = content_origin("slide")
    assert (overlay[top + 40, left + 40] == (10, 200, 30)).all()
    assert (overlay[top + 4, left + 4] != (10, 200, 30)).any()


def test_a_bag_is_named_by_its_position_or_by_where_its_tiles_lie(tmp_path):
    store, weights = _store(tmp_path, PLACES), np.array([0.7, 0.1, 0.1, 0.1])
    by_position, by_slice = (draw_bag_overlay(store, chosen, weights) for chosen in (1, store.tile_slice(1)))
    assert np.array_equal(by_position, by_slice)
    assert not np.array_equal(by_position, draw_bag_overlay(store, 2, weights))


def test_features_have_no_overlay_of_their_own(tmp_path):
    with BagStoreWriter(tmp_path / "features") as writer:
        writer.add("slide", np.zeros((4, 8), np.float32), {}, PLACES)
    assert draw_bag_overlay(BagStore.open(tmp_path / "features"), 0, np.full(4, 0.25)) is None


def test_a_store_of_other_bags_is_refused_and_leaves_nothing(tmp_path):
    store = _store(tmp_path, PLACES)
    with pytest.raises(ValueError, match="'slide_3' of predictions.csv is not in"):
        draw_cases(_predictions(4), [3], store, tmp_path / "files")
    with pytest.raises(ValueError, match="3 attention weights but 4 tiles"):
        draw_cases(_predictions(3, num_tiles=3), [0], store, tmp_path / "files")
    assert sorted(path.name for path in tmp_path.iterdir()) == ["store"]


def test_extremes_take_one_tile_a_bag(tmp_path):
    store = _store(tmp_path, PLACES)
    predictions = _predictions()
    attention = dict(zip(predictions.bag_ids, predictions.attention, strict=True))
    picture = np.asarray(draw_run_extremes(attention, store, count=2))
    # Bags 2 and 1 have the sharpest attention; the tiles of bag 0 are not shown.
    for value, shown in ((60, False), (120, True), (180, True)):
        assert ((picture == value).all(axis=2).sum() > 5000) == shown
    assert draw_run_extremes({}, store) is None


def test_white_tiles_that_fill_a_bag_up_are_no_extremes(tmp_path):
    tiles = np.stack([np.full((32, 32, 3), value, np.uint8) for value in (60, 120, 255)])
    with BagStoreWriter(tmp_path / "store") as writer:
        writer.add("slide", tiles, {}, {"x": np.array([0, 32, np.nan]), "y": np.array([0, 0, np.nan])})
    weights = np.array([0.7, 0.2, 0.1])
    picture = np.asarray(draw_run_extremes({"slide": weights}, BagStore.open(tmp_path / "store")))
    for value in (60, 120):
        assert (picture == value).all(axis=2).sum() > 5000


def test_grey_tiles_can_be_drawn(tmp_path):
    store = _store(tmp_path, PLACES, channels=1, size=28)
    assert draw_cases(_predictions(), [0], store, tmp_path / "files")["slide_0"].overlay is not None


def test_a_network_with_maps_per_class_gets_a_picture_for_each(tmp_path):
    store, plain = _store(tmp_path, PLACES), _predictions()
    maps = {f"attention_{name}": [np.roll(weights, 1) for weights in plain.attention] for name in plain.class_names}
    drawn = draw_cases(replace(plain, maps=maps), [1], store, tmp_path / "report_files")
    assert [words for words, _ in drawn["slide_1"].class_overlays] == [
        "attention for benign",
        "attention for malignant",
    ]
    files = {file for _, file in drawn["slide_1"].class_overlays}
    assert len(files) == 2
    assert files <= {path.name for path in (tmp_path / "report_files").iterdir()}
    assert draw_cases(plain, [1], store, tmp_path / "plain")["slide_1"].class_overlays == ()
