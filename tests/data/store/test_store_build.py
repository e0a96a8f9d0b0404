import logging
import multiprocessing
import time

import numpy as np
import pytest

from milpath.data.sources.synthetic import SyntheticBags
from milpath.data.store.store_build import open_or_build
from milpath.data.store.stored_bags import StoredBags


class CountedSource:
    """A source that counts on disk how often it was written, across processes."""

    def __init__(self, folder, value=1):
        self.folder = folder
        self.value = value

    def describe(self):
        return {"value": self.value}

    def write(self, writer):
        (self.folder / f"written_{time.monotonic_ns()}").touch()
        time.sleep(0.3)
        for number in range(3):
            writer.add(str(number), np.full((2, 4), self.value, np.float32), {"label": number % 2})


def test_a_store_is_built_once_and_found_again(tmp_path):
    source = CountedSource(tmp_path)
    one = open_or_build(source, tmp_path / "stores")
    other = open_or_build(CountedSource(tmp_path), tmp_path / "stores")
    assert one.path == other.path
    assert one.path.name.startswith("CountedSource-")
    assert len(list(tmp_path.glob("written_*"))) == 1


def test_other_parameters_give_another_store(tmp_path):
    stores = {open_or_build(CountedSource(tmp_path, value), tmp_path / "stores").path for value in (1, 2)}
    assert len(stores) == 2


def test_processes_that_start_together_build_once(tmp_path):
    context = multiprocessing.get_context("fork")
    processes = [
        context.Process(target=open_or_build, args=(CountedSource(tmp_path), tmp_path / "s")) for _ in range(3)
    ]
    for process in processes:
        process.start()
    for process in processes:
        process.join(120)
    assert [process.exitcode for process in processes] == [0, 0, 0]
    assert len(list(tmp_path.glob("written_*"))) == 1


def test_a_failed_build_leaves_no_store_and_can_be_repeated(tmp_path):
    source = CountedSource(tmp_path)
    source.write = lambda writer: 1 / 0
    with pytest.raises(ZeroDivisionError):
        open_or_build(source, tmp_path / "stores")
    assert [path.name for path in (tmp_path / "stores").iterdir() if not path.name.startswith(".")] == []
    assert len(open_or_build(CountedSource(tmp_path), tmp_path / "stores")) == 3


def test_leftovers_of_a_killed_build_are_removed(tmp_path):
    path = open_or_build(CountedSource(tmp_path), tmp_path / "one").path
    leftover = tmp_path / "two" / f"{path.name}.partial-99999"
    leftover.mkdir(parents=True)
    (leftover / "tiles.npy").write_bytes(b"half")
    open_or_build(CountedSource(tmp_path), tmp_path / "two")
    assert not leftover.exists()


def test_one_line_says_what_was_built(tmp_path, caplog):
    with caplog.at_level(logging.INFO, logger="milpath"):
        store = open_or_build(SyntheticBags(num_slides=2, num_tiles=2, tile_size=32), tmp_path)
        assert len(caplog.messages) == 1
        assert caplog.messages[0].startswith(f"SyntheticBags: 2 bags (0 MB) written to {store.path} in ")
        open_or_build(SyntheticBags(num_slides=2, num_tiles=2, tile_size=32), tmp_path)
        assert len(caplog.messages) == 1


def test_stored_bags_are_opened_where_they_lie(make_store, tmp_path):
    path = make_store([2, 3])
    assert open_or_build(StoredBags(path), tmp_path / "stores").path == path
    assert not (tmp_path / "stores").exists()


def test_two_data_sets_of_users_with_one_name_have_a_store_each(tmp_path):
    def write_ones(self, writer):
        writer.add("bag", np.ones((1, 2), np.float32), {"label": 0})

    def write_twos(self, writer):
        writer.add("bag", np.full((1, 2), 2, np.float32), {"label": 0})

    kinds = [
        type("MyBags", (), {"__module__": module, "describe": lambda self: {"version": 1}, "write": write})
        for module, write in (("first", write_ones), ("second", write_twos))
    ]
    ones, twos, again = (open_or_build(kind(), tmp_path) for kind in (*kinds, kinds[0]))
    assert ones.read(0).tolist() == [[1, 1]] == again.read(0).tolist()
    assert twos.read(0).tolist() == [[2, 2]]
    assert ones.path == again.path
