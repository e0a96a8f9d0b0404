import errno
import gc
import json
import os
import re
from pathlib import Path

import numpy as np
import pandas as pd
import pytest

from milpath.data.store.bag_store import BagStore
from milpath.data.store.bag_store_writer import BagStoreWriter
from milpath.records.label_table import find_column


def test_what_is_written_is_read_again(tmp_path):
    rng = np.random.default_rng(0)
    bags = {f"slide_{length}": rng.integers(0, 256, (length, 8, 8, 3), dtype=np.uint8) for length in (3, 1, 5)}
    with BagStoreWriter(tmp_path / "store", {"name": "Test", "parameters": {"a": 1}}) as writer:
        for number, (bag_id, tiles) in enumerate(bags.items()):
            rows = {
                "x": np.arange(len(tiles)) * 8,
                "y": np.zeros(len(tiles), int),
                "tile_label": np.ones(len(tiles), int),
            }
            writer.add(bag_id, tiles, {"label": number, "provider": "karolinska"}, rows)
    store = BagStore.open(tmp_path / "store")
    for index, (bag_id, tiles) in enumerate(bags.items()):
        assert store.bags["bag_id"][index] == bag_id
        np.testing.assert_array_equal(store.tiles[store.tile_slice(index)], tiles)
    assert store.bags["label"].tolist() == [0, 1, 2]
    assert store.tiles_table["x"].tolist() == [0, 8, 16, 0, 0, 8, 16, 24, 32]
    assert store.tile_labels.tolist() == [1] * 9
    assert store.num_tiles.tolist() == [3, 1, 5]
    assert store.tile_shape == (8, 8, 3)
    assert store.description["source"] == {"name": "Test", "parameters": {"a": 1}}


def test_tiles_are_mapped_and_plain_numpy(make_store):
    path = make_store([2, 3])
    assert isinstance(BagStore.open(path).tiles, np.memmap)
    assert np.load(path / "tiles.npy").shape == (5, 6, 6, 3)


@pytest.mark.parametrize("dtype", [np.uint8, np.float16, np.float32])
def test_features_and_images_of_any_type_are_kept(tmp_path, dtype):
    features = np.random.default_rng(0).normal(0, 50, (4, 7)).astype(dtype)
    with BagStoreWriter(tmp_path / "store") as writer:
        writer.add("slide", features, {"label": 0})
    store = BagStore.open(tmp_path / "store")
    assert store.tiles.dtype == dtype
    np.testing.assert_array_equal(store.tiles, features)


def test_identifiers_stay_text(tmp_path):
    with BagStoreWriter(tmp_path / "store") as writer:
        for bag_id in ("007", "1e5", "NA"):
            writer.add(bag_id, np.zeros((1, 2), np.float32), {"label": 0})
    assert BagStore.open(tmp_path / "store").bags["bag_id"].tolist() == ["007", "1e5", "NA"]


def test_a_failed_write_leaves_nothing_behind(tmp_path):
    with pytest.raises(RuntimeError), BagStoreWriter(tmp_path / "store") as writer:
        writer.add("slide", np.zeros((2, 4, 4, 3), np.uint8), {"label": 0})
        raise RuntimeError("the machine failed")
    assert list(tmp_path.iterdir()) == []


def test_an_existing_store_is_not_overwritten(make_store, tmp_path):
    make_store([2, 3])
    with pytest.raises(FileExistsError, match="exists; delete it or give another path"):
        BagStoreWriter(tmp_path / "store")


@pytest.mark.parametrize(
    ("second", "message"),
    [
        (np.zeros((0, 4, 4, 3), np.uint8), "bag 'b' has no tiles"),
        (
            np.zeros((2, 5, 5, 3), np.uint8),
            "tiles of bag 'b' are uint8 (5, 5, 3), those of the bags before uint8 (4, 4, 3)",
        ),
        (
            np.zeros((2, 4, 4, 3), np.float32),
            "tiles of bag 'b' are float32 (4, 4, 3), those of the bags before uint8 (4, 4, 3)",
        ),
    ],
)
def test_a_bag_that_does_not_fit_is_refused(tmp_path, second, message):
    with pytest.raises(ValueError, match=f"^{re.escape(message)}$"), BagStoreWriter(tmp_path / "store") as writer:
        writer.add("a", np.zeros((2, 4, 4, 3), np.uint8), {"label": 0})
        writer.add("b", second, {"label": 0})


def test_a_bag_cannot_come_twice(tmp_path):
    with pytest.raises(ValueError, match=r"^bag 'a' was added twice$"), BagStoreWriter(tmp_path / "store") as writer:
        writer.add("a", np.zeros((2, 4), np.float32), {"label": 0})
        writer.add("a", np.zeros((2, 4), np.float32), {"label": 0})


def test_a_store_without_a_bag_is_refused(tmp_path):
    with pytest.raises(ValueError, match="the source is empty"), BagStoreWriter(tmp_path / "store"):
        pass


def test_a_column_cannot_hide_one_of_the_store(tmp_path):
    with BagStoreWriter(tmp_path / "store") as writer:
        writer.add("a", np.zeros((2, 4), np.float32), {"start": 2020, "num_tiles": 7, "label": 1})
    bags = BagStore.open(tmp_path / "store").bags
    assert bags[["start", "num_tiles", "label"]].iloc[0].tolist() == [0, 2, 1]
    assert bags[find_column(bags.columns, "start")].tolist() == [2020]
    assert bags[find_column(bags.columns, "num_tiles")].tolist() == [7]


def test_no_store_at_the_path_says_so(tmp_path):
    with pytest.raises(FileNotFoundError, match=r"no bag store at .*\(no store.json\)"):
        BagStore.open(tmp_path / "nothing")


def test_another_format_is_refused(make_store):
    path = make_store([1, 2])
    description = json.loads((path / "store.json").read_text())
    (path / "store.json").write_text(json.dumps(description | {"format_version": 99}))
    with pytest.raises(ValueError, match="has format_version 99, this release reads 1"):
        BagStore.open(path)


def test_a_truncated_array_is_refused(make_store):
    path = make_store([4, 4])
    data = (path / "tiles.npy").read_bytes()
    (path / "tiles.npy").write_bytes(data[:-20])
    with pytest.raises(ValueError, match="cannot be read"):
        BagStore.open(path)


def test_tables_and_array_must_agree(make_store):
    path = make_store([4, 4])
    table = pd.read_csv(path / "bags.csv")
    table.loc[1, "num_tiles"] = 3
    table.to_csv(path / "bags.csv", index=False)
    with pytest.raises(ValueError, match="has 8 tiles but bags.csv counts 7"):
        BagStore.open(path)


@pytest.mark.parametrize(("column", "value", "named"), [("start", 5, "start 5 of bag '1', not 4"), ("num_tiles", 0, "bag '1' without tiles")])  # fmt: skip
def test_a_bag_at_the_wrong_place_is_named(make_store, column, value, named):
    path = make_store([4, 4])
    table = pd.read_csv(path / "bags.csv")
    table["bag_id"] = ["0", "1"]
    table.loc[1, column] = value
    if column == "num_tiles":
        table.loc[0, "num_tiles"] = 8
    table.to_csv(path / "bags.csv", index=False)
    with pytest.raises(ValueError, match=f"bags.csv has {named}; delete the folder"):
        BagStore.open(path)


def test_an_array_of_objects_is_never_loaded(make_store):
    path = make_store([1, 1])
    np.save(path / "tiles.npy", np.array([{}, {}], dtype=object), allow_pickle=True)
    with pytest.raises(ValueError, match="cannot be read"):
        BagStore.open(path)


def test_a_changed_array_is_noticed(make_store):
    path = make_store([3, 2])
    store = BagStore.open(path)
    store.verify()
    data = bytearray((path / "tiles.npy").read_bytes())
    data[-1] ^= 1
    (path / "tiles.npy").write_bytes(data)
    with pytest.raises(ValueError, match="was changed after it was written"):
        BagStore.open(path).verify()


def test_a_bag_is_read_as_the_map_has_it(open_store):
    store = open_store([3, 1, 4])
    for index in range(3):
        np.testing.assert_array_equal(store.read(index), store.tiles[store.tile_slice(index)])
        assert store.read(index).flags.owndata


def test_a_file_that_became_shorter_is_noticed(make_store):
    path = make_store([4, 4])
    store = BagStore.open(path)
    os.truncate(path / "tiles.npy", 300)
    with pytest.raises(ValueError, match="ends too early; delete"):
        store.read(1)


def test_opening_many_stores_leaves_no_file_open(make_store):
    path = make_store([2, 2])
    before = len(list(Path("/proc/self/fd").iterdir()))
    for _ in range(20):
        BagStore.open(path).read(0)
    gc.collect()
    assert len(list(Path("/proc/self/fd").iterdir())) <= before + 1


def test_an_array_in_column_order_is_refused(make_store):
    path = make_store([2, 3], tile_shape=(4,))
    np.save(path / "tiles.npy", np.asfortranarray(np.load(path / "tiles.npy")))
    with pytest.raises(ValueError, match="is in column-major order; write it with numpy.ascontiguousarray"):
        BagStore.open(path)


@pytest.mark.parametrize(
    ("number", "said"),
    [
        (errno.EACCES, "may not be read (Permission denied); allow reading it, or give a store that you may read"),
        (errno.EPERM, "may not be read (Operation not permitted); allow reading it, or give a store that you may read"),
        (errno.EIO, "cannot be read now (Input/output error); see to its disk, or give a copy of "),
    ],
)
def test_a_store_that_the_system_does_not_let_be_read_is_not_to_be_deleted(tmp_path, monkeypatch, number, said):
    def refuse(path, **words):
        raise OSError(number, os.strerror(number), str(path))

    with BagStoreWriter(tmp_path / "store") as writer:
        writer.add("a", np.zeros((1, 2, 2, 3), np.uint8), {})
    monkeypatch.setattr(np, "load", refuse)
    with pytest.raises(OSError, match=re.escape(f"{tmp_path}/store/tiles.npy {said}")) as error:
        BagStore.open(tmp_path / "store")
    assert "delete" not in str(error.value)


def test_an_empty_array_is_one_line(tmp_path):
    with BagStoreWriter(tmp_path / "store") as writer:
        writer.add("a", np.zeros((1, 2, 2, 3), np.uint8), {})
    (tmp_path / "store/tiles.npy").write_bytes(b"")
    with pytest.raises(ValueError, match=r"tiles\.npy cannot be read .*; delete .* and build it again"):
        BagStore.open(tmp_path / "store")
