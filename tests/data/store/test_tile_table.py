"""Rows of `tiles.csv` from the index are those of the table, and an index that is not right is not used."""

import json
import logging
import shutil

import numpy as np
import pandas as pd
import pytest

from milpath.data.store import bag_store_writer, store_digests, tile_table, verified_arrays
from milpath.data.store.bag_store import BagStore
from milpath.data.store.bag_store_writer import BagStoreWriter
from milpath.data.store.grouped_store import GroupedStore
from milpath.data.store.level0_positions import level0_positions
from milpath.data.store.seal_store import seal_store
from milpath.data.store.store_digests import sealed_description
from milpath.records.digests import sha256_of_values
from tests.conftest import REPOSITORY

LENGTHS = [3, 1, 4, 2]


def write_store(path, **columns):
    """Write four bags with columns of tiles; by default as slides have them, some tiles without a place."""
    count = sum(LENGTHS)
    place = np.arange(count) * 256.0
    place[[1, 9]] = np.nan
    default = {
        "x": np.arange(count) * 8,
        "y": np.arange(count) * 3,
        "level": np.zeros(count, int),
        "x0": place,
        "y0": place / 3,
    }
    default |= {
        "size0": np.where(np.isnan(place), np.nan, 256),
        "tissue_fraction": np.round(np.linspace(0, 1, count), 4),
    }
    default |= {"tile_label": np.array([0, 1, -1, 0, 1, 1, 0, -1, 0, 0])}
    columns = {name: np.asarray(values) for name, values in (columns or default).items()}
    with BagStoreWriter(path, {"name": "test"}) as writer:
        for number, start in enumerate(np.cumsum([0, *LENGTHS[:-1]])):
            rows = slice(start, start + LENGTHS[number])
            tiles = np.zeros((LENGTHS[number], 2), np.float32)
            writer.add(
                f"slide_{number}",
                tiles,
                {"label": number % 2},
                {name: values[rows] for name, values in columns.items()},
            )
    return path


@pytest.fixture
def table(tmp_path):
    """The store read as a table, which is how small stores are read."""
    store = BagStore.open(write_store(tmp_path / "table"))
    assert store.tiles_table is not None
    assert not (store.path / tile_table.INDEX).exists()
    return store


@pytest.fixture
def indexed(table, tmp_path, monkeypatch):
    """A copy of the store whose table counts as large."""
    monkeypatch.setattr(tile_table, "SMALLEST_BYTES", 0)
    monkeypatch.setattr(tile_table, "_BLOCK_ROWS", 3)  # a block without and a block with empty cells
    return BagStore.open(shutil.copytree(table.path, tmp_path / "indexed"))


def require_equal(store, table):
    pd.testing.assert_frame_equal(store.tiles_table, table.tiles_table, check_exact=True)
    np.testing.assert_array_equal(store.tile_labels, table.tile_labels)
    for index in range(len(table)):
        where = table.tile_slice(index)
        pd.testing.assert_frame_equal(store.tile_rows(where), table.tile_rows(where), check_exact=True)
        np.testing.assert_array_equal(store.labels_of_tiles(where), table.labels_of_tiles(where))
        for found, known in zip(level0_positions(store, where), level0_positions(table, where), strict=True):
            np.testing.assert_array_equal(found, known)
    some = np.array([0, 5, 9])
    pd.testing.assert_frame_equal(store.tile_rows(some), table.tile_rows(some), check_exact=True)
    assert store.labels_of_tiles(some).dtype == table.labels_of_tiles(some).dtype == np.int64


def test_rows_labels_and_places_are_those_of_the_table(indexed, table):
    require_equal(indexed, table)
    assert (indexed.path / tile_table.INDEX).is_file()


def test_the_table_is_read_once_and_later_processes_map_the_index(indexed, table, monkeypatch):
    require_equal(indexed, table)
    for name in ("read_written_blocks", "read_written_table"):
        monkeypatch.setattr(tile_table, name, lambda *_, **__: pytest.fail("the table was read again"))
    again = BagStore.open(indexed.path)
    require_equal(again, table)
    assert isinstance(again._tile_table._index.values, np.memmap)
    view = again.view(again.bags.iloc[[2]].reset_index(drop=True), again.description)
    assert view.tile_rows(view.tile_slice(0))["bag_id"].tolist() == ["slide_2"] * 4
    patients = GroupedStore(again, pd.DataFrame({"bag_id": ["p", "q"]}), [np.array([0, 2]), np.array([1, 3])])
    rows = patients.tile_rows(patients.tile_slice(0))
    assert rows["bag_id"].tolist() == ["p"] * 7
    assert rows["slide"].tolist() == ["slide_0"] * 3 + ["slide_2"] * 4
    assert patients.labels_of_tiles(patients.tile_slice(0)).tolist() == [0, 1, -1, 1, 1, 0, -1]


@pytest.mark.parametrize(
    ("damage", "reason"),
    [
        (
            lambda path: (path / ".tiles.npy").write_bytes((path / ".tiles.npy").read_bytes()[:-8] + bytes([1] * 8)),
            "was changed",
        ),
        (lambda path: (path / ".tiles.npy").write_bytes(b"short"), "was changed after it was written"),
        (lambda path: (path / ".tiles.npy").unlink(), "No such file"),
        (lambda path: (path / ".tiles.json").write_text("{"), "is not JSON, or is damaged"),
        (lambda path: (path / ".tiles.json").write_text('{"format_version": 1}'), "cannot be read"),
        (lambda path: edit(path, '"x"', '"z"'), ".tiles.json was changed after it was written"),
        (lambda path: change(path, columns=["bag_id", "x"]), "has another form than it says"),
        (lambda path: change(path, whole=["tissue"]), "has another form than it says"),
        (lambda path: change(path, tables={}), "belongs to other tables"),
        (lambda path: change(path, format_version=2), "is not of this format"),
    ],
)
def test_an_index_that_is_damaged_or_of_other_tables_is_refused_in_one_line(damage, reason, indexed, table, caplog):
    require_equal(indexed, table)
    damage(indexed.path)
    with caplog.at_level(logging.WARNING):
        require_equal(BagStore.open(indexed.path), table)
    (line,) = caplog.messages
    assert ".tiles.npy is not used (" in line
    assert reason in line
    assert line.count("\n") == 0
    caplog.clear()
    with caplog.at_level(logging.WARNING):  # it was made again
        require_equal(BagStore.open(indexed.path), table)
    assert caplog.messages == []


def change(path, **values):
    about = json.loads((path / ".tiles.json").read_text()) | values
    del about["digest"]
    (path / ".tiles.json").write_text(json.dumps(about | {"digest": sha256_of_values(about)}))


def edit(path, before, after):
    (path / ".tiles.json").write_text((path / ".tiles.json").read_text().replace(before, after))


def test_a_table_that_was_corrected_and_accepted_gets_another_index(indexed, table):
    require_equal(indexed, table)
    csv = indexed.path / "tiles.csv"
    csv.write_text(csv.read_text().replace("slide_0,0,0,", "slide_0,77,0,", 1))
    assert seal_store(indexed.path) == ["tiles.csv"]
    assert BagStore.open(indexed.path).tile_rows(slice(0, 2))["x"].tolist() == [77, 8]


@pytest.mark.parametrize(
    "column",
    [np.array(["a"] * 5 + ["7"] * 5), np.array([True] * 10), np.array([0] * 9 + [(1 << 60) + 1])],
    ids=["words", "truth", "a number that float64 does not hold"],
)
def test_a_table_that_is_not_of_numbers_is_read_as_a_table(column, tmp_path, monkeypatch):
    path = write_store(tmp_path / "store", x=np.arange(10), kind=column)
    table = BagStore.open(path).tiles_table
    monkeypatch.setattr(tile_table, "SMALLEST_BYTES", 0)
    for _ in range(2):  # the second time the index says that there is none
        pd.testing.assert_frame_equal(BagStore.open(path).tiles_table, table)
        pd.testing.assert_frame_equal(BagStore.open(path).tile_rows(slice(2, 5)), table.iloc[2:5])
    assert json.loads((path / tile_table.ABOUT).read_text())["columns"] is None


def test_a_table_of_names_only_has_rows_too(tmp_path, monkeypatch):
    with BagStoreWriter(tmp_path / "store") as writer:
        writer.add("a", np.zeros((2, 3), np.float32), {"label": 0})
        writer.add("b", np.zeros((1, 3), np.float32), {"label": 1})
    monkeypatch.setattr(tile_table, "SMALLEST_BYTES", 0)
    for _ in range(2):
        assert BagStore.open(tmp_path / "store").tile_rows(slice(1, 3))["bag_id"].tolist() == ["a", "b"]


def test_where_an_index_cannot_be_written_the_numbers_are_kept_in_memory(indexed, table, caplog):
    (indexed.path / tile_table.INDEX).mkdir()
    (indexed.path / tile_table.INDEX / "in_the_way").touch()
    with caplog.at_level(logging.INFO):
        require_equal(indexed, table)
    assert ".tiles.npy cannot be written" in caplog.text


def test_a_store_of_version_0_1_0_is_indexed_too(tmp_path, monkeypatch):
    (old,) = (path.parent for path in (REPOSITORY / "tests/version_0_1_0").glob("bags/store.json"))
    table = BagStore.open(shutil.copytree(old, tmp_path / "old")).tiles_table
    monkeypatch.setattr(tile_table, "SMALLEST_BYTES", 0)
    for _ in range(2):
        store = BagStore.open(tmp_path / "old")
        assert "parts" not in store.description
        pd.testing.assert_frame_equal(store.tiles_table, table)
    assert (tmp_path / "old" / tile_table.INDEX).is_file()


@pytest.mark.parametrize(
    ("edit", "message"),
    [
        (lambda lines: [*lines[:1], *sorted(lines[1:], reverse=True)], "one of them was sorted or changed"),
        (lambda lines: lines[:-1], "has 9 rows, but bags.csv counts 10 tiles"),
        (lambda lines: [*lines, lines[-1]], "rows, but bags.csv counts 10 tiles"),
        (lambda lines: [*lines[:-1], lines[-1].replace(",27,", ",inf,")], "has y=inf for tile 1 of bag 'slide_3'; give a finite"),
        (lambda lines: [line.replace("slide_1", "") for line in lines], "has a tile of nan in row 5"),
    ],
)  # fmt: skip
def test_a_large_table_that_contradicts_the_bags_is_refused_as_a_small_one_is(edit, message, indexed):
    csv = indexed.path / "tiles.csv"
    csv.write_text("\n".join(edit(csv.read_text().splitlines())) + "\n")
    # As a program would write it that gets the digests right and the rows wrong.
    sealed = sealed_description(indexed.description, indexed.path)
    (indexed.path / "store.json").write_text(json.dumps(sealed))
    with pytest.raises(ValueError, match=message.replace("(", r"\(")):
        BagStore.open(indexed.path).tile_rows(slice(0, 1))
    assert not (indexed.path / tile_table.INDEX).exists()


def test_a_large_table_is_hashed_once_and_again_when_it_has_changed(table, monkeypatch):
    monkeypatch.setattr(store_digests, "_REMEMBERED_BYTES", 0)
    monkeypatch.setattr(verified_arrays, "_TICK_NS", 0)
    BagStore.open(table.path)
    with monkeypatch.context() as patch:
        patch.setattr(store_digests, "sha256_of_file", lambda path: pytest.fail(f"{path} was hashed again"))
        BagStore.open(table.path)
    text = (table.path / "tiles.csv").read_text()
    (table.path / "tiles.csv").write_text(text.replace("slide_0,0,0", "slide_0,1,0", 1))
    with pytest.raises(ValueError, match=r"tiles.csv was changed after it was written"):
        BagStore.open(table.path)


def test_a_table_written_in_blocks_has_the_same_bytes(tmp_path, monkeypatch):
    def bags(path):
        with BagStoreWriter(path) as writer:
            for number in range(6):  # whole numbers in some bags and fractions in others are one column
                x = np.arange(3) + (0 if number % 2 else 0.5) if number > 3 else np.arange(3)
                writer.add(
                    f"bag_{number}", np.zeros((3, 2)), {"label": 0}, {"x": x, "name": np.array(["a", "bc", "d,e"])}
                )
        return (path / "tiles.csv").read_bytes()

    whole = bags(tmp_path / "whole")
    monkeypatch.setattr(bag_store_writer, "_BLOCK_ROWS", 4)
    assert bags(tmp_path / "blocks") == whole
    assert whole.decode().splitlines()[1:3] == ["bag_0,0.0,a", "bag_0,1.0,bc"]
