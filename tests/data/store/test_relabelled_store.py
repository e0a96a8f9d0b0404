"""Labels are read at each start; tiles are copied once."""

import json
import logging
import os
import shutil
from pathlib import Path

import h5py
import numpy as np
import pandas as pd
import pytest
import torch
from PIL import Image

from milpath.data import BagDataModule, ColonCancer, FeatureBags, ImageTiles, PandaTiles, seal_store
from milpath.data.sources.features import feature_bags
from milpath.data.store.level0_positions import bounds_offset, resolution_of
from milpath.data.store.store_build import open_or_build
from milpath.records.label_table import find_column
from tests.drawn_data import draw_breast_images, draw_colon
from tests.feature_files import write_trident

WRITTEN = Path(__file__).parents[2] / "version_0_1_0"


def write_slides(folder, num=8, width=4):
    """Write features and a label table."""
    rng = np.random.default_rng(0)
    (folder / "features").mkdir(parents=True)
    names = [f"s{number}" for number in range(num)]
    for number, name in enumerate(names):
        features = rng.normal(size=(3 + number % 2, width)).astype(np.float32)
        torch.save(torch.from_numpy(features), folder / "features" / f"{name}.pt")
    write_labels(folder, names)
    return folder


def write_labels(folder, names, **columns):
    table = {"slide_id": names, "label": [number % 2 for number in range(len(names))]} | columns
    pd.DataFrame(table).to_csv(folder / "labels.csv", index=False)


def source_of(folder, **options):
    return FeatureBags(folder / "features", folder / "labels.csv", **options)


def datamodule(folder, stores, **options):
    built = BagDataModule(source_of(folder), stores_dir=str(stores), num_folds=1, **options)
    built.setup()
    return built


def built_stores(folder):
    return sorted(path.name for path in folder.iterdir() if path.is_dir())


def correct(path, row=0, column="label", value=1):
    table = pd.read_csv(path)
    table.loc[row, column] = value
    table.to_csv(path, index=False)


def test_a_corrected_label_copies_nothing(tmp_path, caplog):
    folder = write_slides(tmp_path / "in")
    before = datamodule(folder, tmp_path / "stores")
    correct(folder / "labels.csv", 0, value=1)
    with caplog.at_level(logging.INFO, logger="milpath"):
        after = datamodule(folder, tmp_path / "stores")
    assert built_stores(tmp_path / "stores") == [before.store.path.name]
    assert (before.label_frame["label"] != after.label_frame["label"]).sum() == 1
    assert after.label_frame["label"].iloc[0] == 1
    assert "the rows of 1 bags changed ('s0'); the new ones are used" in caplog.text
    labels = (built.description["source"]["parameters"]["labels"] for built in (before, after))
    assert len(set(labels)) == 2  # a run records the table that it used
    assert before.description["labels_sha256"] != after.description["labels_sha256"]


def test_new_columns_are_those_that_a_new_store_would_have(tmp_path):
    folder = write_slides(tmp_path / "in")
    datamodule(folder, tmp_path / "stores")
    names = [f"s{number}" for number in range(8)]
    columns = {"site": ["NA", "7", "", "x", "y", "z", "7", "7"], "age": [1, None, 3, 4, 5, 6, 7, 8], "late": [True] * 8}
    write_labels(folder, names, **columns)
    again, fresh = datamodule(folder, tmp_path / "stores"), datamodule(folder, tmp_path / "fresh")
    pd.testing.assert_frame_equal(again.store.bags, fresh.store.bags)
    pd.testing.assert_frame_equal(again.label_frame, fresh.label_frame)


def test_columns_of_a_label_table_say_nothing_about_the_resolution_of_tiles(tmp_path):
    """Tables have the resolution of the slides, for `milpath tile` and `extract`."""
    slides = {"a": 0.5, "b": 0.55}
    for name, microns in slides.items():
        write_trident(tmp_path / f"features/{name}.h5", np.ones((3, 4)), np.zeros((3, 2)), microns_per_pixel=microns)
    said = {"microns_per_pixel": 0.25, "downsample": 7, "bounds_x0": 9}
    for columns in ({}, said):
        write_labels(tmp_path, list(slides), **columns)
        store = open_or_build(source_of(tmp_path), tmp_path / "stores")
        found = [resolution_of(store, store.tile_slice(index)) for index in range(2)]
        assert found == [(0.5, 2.0), (0.55, 2.0)]
        assert bounds_offset(store, store.tile_slice(0)) == (0, 0)
        assert find_column(store.bags.columns, "downsample") == ("labels:downsample" if columns else None)
    assert len(built_stores(tmp_path / "stores")) == 1
    fresh = open_or_build(source_of(tmp_path), tmp_path / "others")
    assert resolution_of(fresh, fresh.tile_slice(1)) == (0.55, 2.0)


def test_a_store_that_holds_such_a_column_of_a_label_table_is_read_without_it(tmp_path, monkeypatch):
    write_trident(tmp_path / "features/a.h5", np.ones((3, 4)), np.zeros((3, 2)))
    write_labels(tmp_path, ["a"], microns_per_pixel=0.25)
    with monkeypatch.context() as earlier:
        earlier.setattr(feature_bags, "SLIDE_FACTS", ())
        open_or_build(source_of(tmp_path), tmp_path / "stores")
    store = open_or_build(source_of(tmp_path), tmp_path / "stores")
    assert resolution_of(store, store.tile_slice(0)) == (0.5, 2.0)


@pytest.mark.parametrize("kind", ["panda", "images", "colon"])
def test_tiles_are_not_cut_again_for_a_corrected_label(kind, tmp_path, synthetic_folder):
    if kind == "panda":
        shutil.copytree(synthetic_folder, tmp_path / "in")
        table, column = tmp_path / "in/train.csv", "isup_grade"
        source = lambda: PandaTiles(tmp_path / "in/train", table, num_tiles=4, tile_size=32)  # noqa: E731
    elif kind == "images":
        draw_breast_images(tmp_path / "in", groups=2)
        table, column = tmp_path / "in/labels.csv", "label"
        source = lambda: ImageTiles(tmp_path / "in")  # noqa: E731
    else:
        draw_colon(tmp_path / "in")
        table, column = tmp_path / "in/labels.csv", "label"
        source = lambda: ColonCancer(tmp_path / "in")  # noqa: E731
    before = open_or_build(source(), tmp_path / "stores")
    correct(table, 0, column, 1 - before.bags[column].iloc[0])
    after = open_or_build(source(), tmp_path / "stores")
    assert built_stores(tmp_path / "stores") == [before.path.name]
    pd.testing.assert_frame_equal(after.bags, open_or_build(source(), tmp_path / "fresh").bags)


def test_fewer_bags_are_those_of_a_store_that_has_more(tmp_path):
    folder = write_slides(tmp_path / "in")
    whole = datamodule(folder, tmp_path / "stores")
    (tmp_path / "bad.csv").write_text("slide_id\ns3\n")
    part = datamodule(folder, tmp_path / "stores", exclude=[str(tmp_path / "bad.csv")])
    fresh = datamodule(folder, tmp_path / "fresh", exclude=[str(tmp_path / "bad.csv")])
    assert built_stores(tmp_path / "stores") == [whole.store.path.name]
    assert (
        part.store.bags["bag_id"].tolist()
        == fresh.store.bags["bag_id"].tolist()
        == ["s0", "s1", "s2", *["s4", "s5", "s6", "s7"]]
    )
    for index in range(7):
        np.testing.assert_array_equal(part.store.read(index), fresh.store.read(index))
    pd.testing.assert_frame_equal(part.split_frame(), fresh.split_frame())
    # What identifies a run does not depend on what else a folder of stores holds.
    assert part.store.description["sha256"] == fresh.store.description["sha256"] != whole.store.description["sha256"]
    part.store.verify()


def test_the_files_of_an_excluded_or_unlabelled_slide_are_not_opened(tmp_path):
    folder = write_slides(tmp_path / "in")
    for name in ("s3", "s5"):
        (folder / f"features/{name}.pt").write_bytes(b"damaged")
    write_labels(folder, [f"s{number}" for number in range(8) if number != 5])
    (tmp_path / "bad.csv").write_text("slide_id\ns3\ns5\n")
    built = datamodule(folder, tmp_path / "stores", exclude=[str(tmp_path / "bad.csv")])
    assert len(built.label_frame) == 6
    (tmp_path / "one.csv").write_text("slide_id\ns3\n")
    skipped = BagDataModule(
        source_of(folder, on_mismatch="skip"),
        stores_dir=str(tmp_path / "s"),
        exclude=[str(tmp_path / "one.csv")],
        num_folds=1,
    )
    skipped.setup()
    assert len(skipped.label_frame) == 6


def test_a_split_file_may_name_excluded_bags(tmp_path):
    folder = write_slides(tmp_path / "in")
    datamodule(folder, tmp_path / "stores").split_frame().to_csv(tmp_path / "splits.csv", index=False)
    (tmp_path / "bad.csv").write_text("slide_id\ns3\n")
    options = {"splits": str(tmp_path / "splits.csv"), "exclude": [str(tmp_path / "bad.csv")]}
    assert len(datamodule(folder, tmp_path / "stores", **options).label_frame) == 7


def test_every_bad_file_is_named_at_once_and_the_list_leaves_them_out(tmp_path):
    folder = write_slides(tmp_path / "in")
    (folder / "features/s1.pt").write_bytes(b"damaged")
    torch.save(torch.zeros(0, 4), folder / "features/s4.pt")
    torch.save(torch.full((2, 4), float("nan")), folder / "features/s6.pt")
    with pytest.raises(
        ValueError, match="^3 of 8 bags in .* cannot be read: 's1' .* 's4' .* 's6' .*nan in column 0"
    ) as error:
        datamodule(folder, tmp_path / "stores")
    assert built_stores(tmp_path / "stores") == []
    listed = str(error.value).split("data.exclude=[")[1].split("]")[0]
    assert pd.read_csv(listed)["bag_id"].tolist() == ["s1", "s4", "s6"]
    assert len(datamodule(folder, tmp_path / "stores", exclude=[listed]).label_frame) == 5


def test_bad_files_are_skipped_with_a_word_and_never_by_a_run_that_did_not_ask(tmp_path, caplog):
    folder = write_slides(tmp_path / "in")
    (folder / "features/s1.pt").write_bytes(b"damaged")
    for _ in range(2):
        caplog.clear()
        store = open_or_build(source_of(folder, on_error="skip"), tmp_path / "stores")
        assert len(store) == 7
        assert "left out: 1 of 8 bags in" in caplog.text
    assert len(built_stores(tmp_path / "stores")) == 1
    with pytest.raises(ValueError, match=r"^1 of 8 bags in .* cannot be read: 's1' \(.*data.on_error=skip$"):
        open_or_build(source_of(folder), tmp_path / "stores")
    for path in (folder / "features").iterdir():
        path.write_bytes(b"damaged")
    with pytest.raises(ValueError, match="^8 of 8 bags in"):
        open_or_build(source_of(folder, on_error="skip"), tmp_path / "stores")


def test_a_damaged_image_is_skipped_on_request(tmp_path):
    draw_breast_images(tmp_path / "in", groups=2)
    Image.new("RGB", (8, 8)).save(tmp_path / "in/images/._array0_benign.jpg")  # what macOS leaves
    (tmp_path / "in/images/array1_benign.jpg").write_bytes(b"damaged")
    assert len(open_or_build(ImageTiles(tmp_path / "in", on_error="skip"), tmp_path / "stores")) == 3


def test_a_correction_in_the_store_counts_until_the_table_changes(tmp_path):
    folder = write_slides(tmp_path / "in")
    store = open_or_build(source_of(folder), tmp_path / "stores")
    correct(store.path / "bags.csv", 0, value=1)
    seal_store(store.path)
    assert open_or_build(source_of(folder), tmp_path / "stores").bags["label"].tolist()[:2] == [1, 1]
    correct(folder / "labels.csv", 1, value=0)
    assert open_or_build(source_of(folder), tmp_path / "stores").bags["label"].tolist()[:2] == [0, 0]


def test_a_store_of_version_0_1_0_gets_the_corrected_labels(tmp_path):
    shutil.copytree(WRITTEN, tmp_path / "old", ignore=shutil.ignore_patterns("*.py", "runs", "networks"))
    expected = json.loads((WRITTEN / "expected.json").read_text())
    for path in (tmp_path / "old/features").iterdir():
        os.utime(path, ns=(expected["file_time"],) * 2)
    stores = built_stores(tmp_path / "old/stores")
    correct(tmp_path / "old/labels.csv", 0, value=1)
    source = FeatureBags(tmp_path / "old/features", tmp_path / "old/labels.csv")
    store = open_or_build(source, tmp_path / "old/stores")
    assert store.path.name.startswith("FeatureBags-")
    assert built_stores(tmp_path / "old/stores") == stores
    assert store.bags["label"].iloc[0] == 1


def test_a_store_of_version_0_1_0_is_not_that_of_other_features(tmp_path):
    shutil.copytree(WRITTEN, tmp_path / "old", ignore=shutil.ignore_patterns("*.py", "runs", "networks"))
    expected = json.loads((WRITTEN / "expected.json").read_text())
    for path in (tmp_path / "old/features").iterdir():
        with h5py.File(path, "r+") as file:
            file["features"][...] += 1
        os.utime(path, ns=(expected["file_time"],) * 2)
    stores = built_stores(tmp_path / "old/stores")
    store = open_or_build(FeatureBags(tmp_path / "old/features", tmp_path / "old/labels.csv"), tmp_path / "old/stores")
    assert store.path.name not in stores


def test_features_of_another_folder_with_equal_names_sizes_and_times_are_other_features(tmp_path):
    folder, stores = write_slides(tmp_path / "in"), tmp_path / "stores"
    shutil.copytree(folder, tmp_path / "other")
    torch.save(torch.load(folder / "features/s2.pt", weights_only=True) + 1, tmp_path / "other/features/s2.pt")
    for path in [*(folder / "features").iterdir(), *(tmp_path / "other/features").iterdir()]:
        os.utime(path, ns=(0, 0))
    one, other = open_or_build(source_of(folder), stores), open_or_build(source_of(tmp_path / "other"), stores)
    assert other.path != one.path
    where = one.tile_slice(2)
    np.testing.assert_array_equal(other.tiles[where], one.tiles[where] + 1)


def test_changed_features_are_copied_again(tmp_path):
    folder = write_slides(tmp_path / "in")
    one = open_or_build(source_of(folder), tmp_path / "stores")
    torch.save(torch.ones(5, 4), folder / "features/s2.pt")
    other = open_or_build(source_of(folder), tmp_path / "stores")
    assert other.path != one.path
    assert other.num_tiles[2] == 5


def test_a_damaged_store_that_would_fit_is_not_used(tmp_path):
    folder = write_slides(tmp_path / "in")
    whole = open_or_build(source_of(folder), tmp_path / "stores")
    (whole.path / "store.json").write_text("{")
    write_labels(folder, [f"s{number}" for number in range(7)])
    assert len(open_or_build(source_of(folder, on_mismatch="skip"), tmp_path / "stores")) == 7
