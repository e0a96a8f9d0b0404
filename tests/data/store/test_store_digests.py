import json
import os
import shutil

import numpy as np
import pandas as pd
import pytest

from milpath.data import seal_store
from milpath.data.store import store_digests
from milpath.data.store import verified_arrays as store_memory
from milpath.data.store.bag_store import BagStore
from milpath.data.store.bag_store_writer import BagStoreWriter


@pytest.fixture
def path(tmp_path):
    rng = np.random.default_rng(0)
    with BagStoreWriter(tmp_path / "store", extra={"tiling": {"tile_size": 6}, "microns_per_pixel": 2.0}) as writer:
        for number, length in enumerate((3, 4, 3)):
            rows = {"x": np.arange(length) * 6, "y": rng.integers(0, 99, length), "level": np.zeros(length, int)}
            tiles = rng.integers(0, 256, (length, 6, 6, 3), dtype=np.uint8)
            writer.add(f"slide {number}", tiles, {"label": number % 2}, rows)
    return tmp_path / "store"


def as_written_by_0_1_0(path):
    """Take away what that version did not write."""
    description = json.loads((path / "store.json").read_text())
    del description["parts"], description["digest"]
    (path / "store.json").write_text(json.dumps(description, indent=2) + "\n")
    return path


def edit_table(name, change):
    def edit(path):
        table = pd.read_csv(path / name)
        change(table).to_csv(path / name, index=False)

    return edit


def flip(name, place):
    def edit(path):
        content = bytearray((path / name).read_bytes())
        content[place] ^= 1
        (path / name).write_bytes(content)

    return edit


def say(change):
    def edit(path):
        description = json.loads((path / "store.json").read_text())
        (path / "store.json").write_text(json.dumps(description | change))

    return edit


def swap_ids(bags):
    return bags.assign(bag_id=bags["bag_id"].tolist()[1::-1] + bags["bag_id"].tolist()[2:])


def move_boundary(bags):
    return bags.assign(num_tiles=[4, 3, 3], start=[0, 4, 7])


def other_shape(path):
    np.save(path / "tiles.npy", np.load(path / "tiles.npy").reshape(10, 6, 3, 6))


def append(path):
    (path / "tiles.npy").write_bytes((path / "tiles.npy").read_bytes() + b"\0")


STRUCTURE = {
    "a sorted tiles.csv": edit_table("tiles.csv", lambda rows: rows.sort_values("bag_id", ascending=False)),
    "a doubled tiles.csv": edit_table("tiles.csv", lambda rows: pd.concat([rows, rows])),
    "a truncated tiles.csv": edit_table("tiles.csv", lambda rows: rows[:-1]),
    "swapped ids": edit_table("bags.csv", swap_ids),
    "a moved boundary": edit_table("bags.csv", move_boundary),
    "a flipped bit in the array": flip("tiles.npy", -7),
    "another shape of a tile": other_shape,
    "a longer array": append,
    "no tiles.csv": lambda path: (path / "tiles.csv").unlink(),
    "no bag": edit_table("bags.csv", lambda bags: bags[:0]),
    "counts that are no numbers": edit_table("bags.csv", lambda bags: bags.assign(num_tiles=["3", "x", "3"])),
    "a bag without a tile": edit_table("bags.csv", lambda bags: bags.assign(num_tiles=[0, 7, 3], start=[0, 0, 7])),
}
CONTENT = {
    "tiles sorted within their bag": edit_table("tiles.csv", lambda rows: rows.sort_values(["bag_id", "y"])),
    "another place of a tile": edit_table("tiles.csv", lambda rows: rows.assign(x=rows["x"] + 1)),
    "another label": edit_table("bags.csv", lambda bags: bags.assign(label=1 - bags["label"])),
    "another resolution": say({"microns_per_pixel": 1.0}),
    "another tiling": say({"tiling": {"tile_size": 7}}),
    "a digest that was taken away": say({"digest": None}),
}


@pytest.mark.parametrize("name", STRUCTURE | CONTENT)
def test_an_edited_store_is_refused_in_one_line_that_names_the_part(path, name):
    BagStore.open(path)
    (STRUCTURE | CONTENT)[name](path)
    with pytest.raises((ValueError, FileNotFoundError), match=r"tiles\.npy|bags\.csv|tiles\.csv|store\.json") as caught:
        BagStore.open(path)
    assert "\n" not in str(caught.value)
    assert "build it again" in str(caught.value)


@pytest.mark.parametrize("name", STRUCTURE)
def test_an_edited_store_of_version_0_1_0_is_refused_by_what_it_holds(path, name):
    as_written_by_0_1_0(path)
    BagStore.open(path)
    STRUCTURE[name](path)
    with pytest.raises((ValueError, FileNotFoundError), match=r"tiles\.npy|bags\.csv|tiles\.csv"):
        BagStore.open(path)


def test_a_store_of_version_0_1_0_is_read_as_before(path):
    new = BagStore.open(path)
    old = BagStore.open(as_written_by_0_1_0(path))
    pd.testing.assert_frame_equal(old.bags, new.bags)
    pd.testing.assert_frame_equal(old.tiles_table, new.tiles_table)
    np.testing.assert_array_equal(old.tiles, new.tiles)


def test_verify_false_leaves_out_the_hash_of_the_array_and_nothing_else(path):
    flip("tiles.npy", -7)(path)
    BagStore.open(path, verify=False)
    CONTENT["another label"](path)
    with pytest.raises(ValueError, match=r"bags\.csv was changed after it was written"):
        BagStore.open(path, verify=False)


def test_an_array_is_hashed_once_per_change_of_its_file(path, monkeypatch):
    monkeypatch.setattr(store_memory, "_TICK_NS", 0)
    hashed = []
    real = store_digests.sha256_of_file
    monkeypatch.setattr(store_digests, "sha256_of_file", lambda file: hashed.append(file.name) or real(file))
    for _ in range(3):
        BagStore.open(path)
    assert hashed.count("tiles.npy") == 1
    # As another process finds it, also after the folder moved.
    store_memory._here.clear()
    moved = path.rename(path.with_name("moved"))
    BagStore.open(moved)
    assert hashed.count("tiles.npy") == 1
    before = (moved / "tiles.npy").stat()
    flip("tiles.npy", -7)(moved)
    os.utime(moved / "tiles.npy", ns=(before.st_atime_ns, before.st_mtime_ns))
    with pytest.raises(ValueError, match=r"tiles\.npy was changed after it was written"):
        BagStore.open(moved)


def test_what_is_remembered_is_worth_nothing_for_a_copy(path, monkeypatch):
    monkeypatch.setattr(store_memory, "_TICK_NS", 0)
    BagStore.open(path)
    copy = shutil.copytree(path, path.with_name("copy"))
    assert (copy / store_memory.MEMORY).is_file()
    flip("tiles.npy", -7)(copy)
    shutil.copystat(path / "tiles.npy", copy / "tiles.npy")
    with pytest.raises(ValueError, match=r"tiles\.npy was changed after it was written"):
        BagStore.open(copy)


def test_a_file_that_changed_just_now_is_not_remembered(path, monkeypatch):
    assert store_memory._TICK_NS >= 1e9
    monkeypatch.setattr(
        store_memory, "_TICK_NS", 600e9
    )  # a busy machine may have taken two seconds since it was written
    BagStore.open(path)
    assert not (path / store_memory.MEMORY).exists()


@pytest.mark.parametrize("there", [b"", b"[]", b"{\xff", b'{"tiles.npy": 3}', None])
def test_a_memory_that_cannot_be_read_or_written_is_no_memory(path, there, monkeypatch):
    monkeypatch.setattr(store_memory, "_TICK_NS", 0)
    if there is None:
        (path / store_memory.MEMORY).mkdir()
    else:
        (path / store_memory.MEMORY).write_bytes(there)
    BagStore.open(path)
    flip("tiles.npy", -7)(path)
    with pytest.raises(ValueError, match=r"tiles\.npy was changed"):
        BagStore.open(path)
    assert not list(path.glob("*.partial"))


def test_a_corrected_label_is_accepted_by_name_and_nothing_else_is(path):
    CONTENT["another label"](path)
    with pytest.raises(ValueError, match=r"bags\.csv was changed.*seal_store\('.*store'\)"):
        BagStore.open(path)
    assert seal_store(path) == ["bags.csv"]
    assert BagStore.open(path).bags["label"].tolist() == [1, 0, 1]
    assert seal_store(path) == []


@pytest.mark.parametrize("name", [*STRUCTURE, "another tiling", "another resolution"])
def test_what_is_no_correction_of_a_table_is_not_accepted(path, name):
    (STRUCTURE | CONTENT)[name](path)
    with pytest.raises((ValueError, FileNotFoundError)):
        seal_store(path)


def test_sealing_gives_a_store_of_version_0_1_0_its_digests(path):
    written = json.loads((path / "store.json").read_text())
    assert seal_store(as_written_by_0_1_0(path)) == ["bags.csv", "tiles.csv"]
    assert json.loads((path / "store.json").read_text()) == written


def test_the_content_of_a_store_is_known_wherever_it_lies(path, make_store):
    before = BagStore.open(path).content_digest()
    say_created = json.loads((path / "store.json").read_text())["created"]
    assert BagStore.open(path.rename(path.with_name("elsewhere"))).content_digest() == before
    assert say_created not in before
    assert BagStore.open(make_store([3, 4, 3], name="other")).content_digest() != before
