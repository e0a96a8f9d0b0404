"""A store that was being built when its process was killed is built on, and ends with the same bytes."""

import multiprocessing
import os
import signal
import time

import numpy as np
import pytest

from milpath.data.sources.features import feature_bags
from milpath.data.store.resumable_writer import ResumableStoreWriter
from milpath.data.store.store_build import open_or_build
from tests.data.store.test_relabelled_store import correct, source_of, write_slides
from tests.feature_files import write_trident

PARTS = ("tiles.npy", "bags.csv", "tiles.csv")


def bytes_of(path):
    return {name: (path / name).read_bytes() for name in PARTS}


def cohort(folder, num=30):
    """Write slides with coordinates, and labels."""
    write_slides(folder, num=num)
    rng = np.random.default_rng(0)
    for path in sorted((folder / "features").iterdir()):
        features = rng.normal(size=(4, 6)).astype(np.float32)
        write_trident(path.with_suffix(".h5"), features, rng.integers(0, 9_000, (4, 2)))
        path.unlink()
    return folder


def build_partly(folder, stores, count):
    """Build a store, and wait for the end once so many bags are finished."""
    add = ResumableStoreWriter.add

    def until_there_are_enough(self, *arguments):
        add(self, *arguments)
        if count_lines(stores) >= count:
            time.sleep(600)

    ResumableStoreWriter.add = until_there_are_enough
    open_or_build(source_of(folder), stores)


def kill_in_the_middle(folder, stores, count):
    """Kill a process that builds a store as soon as so many bags are finished."""
    process = multiprocessing.get_context("fork").Process(target=build_partly, args=(folder, stores, count))
    process.start()
    while count_lines(stores) < count and process.is_alive():
        time.sleep(0.005)
    os.kill(process.pid, signal.SIGKILL)
    process.join()
    assert process.exitcode == -signal.SIGKILL


def count_lines(stores):
    return sum(len(path.read_text().splitlines()) for path in stores.glob("*.unfinished/finished.jsonl"))


def test_a_killed_build_goes_on_and_ends_with_the_same_bytes(tmp_path, monkeypatch):
    folder, stores = cohort(tmp_path / "in"), tmp_path / "stores"
    whole = open_or_build(source_of(folder), tmp_path / "whole")
    for kill in range(3):
        kill_in_the_middle(folder, stores, 7 * (kill + 1))
    read = []
    monkeypatch.setattr(
        feature_bags,
        "read_features",
        lambda path, read_it=feature_bags.read_features: read.append(path) or read_it(path),
    )
    again = open_or_build(source_of(folder), stores)
    assert bytes_of(again.path) == bytes_of(whole.path)
    assert again.description["sha256"] == whole.description["sha256"]
    assert again.description["encoder"] == whole.description["encoder"]
    assert len(read) <= 30 - 21 + 1  # the first slide is read to compare the others with it
    assert [path.name for path in stores.iterdir() if not path.name.startswith(".")] == [again.path.name]
    assert {path.name for path in again.path.iterdir()} <= {*PARTS, "store.json", ".verified.json"}


def half_written(tmp_path, stop=KeyboardInterrupt):
    path = tmp_path / "store"
    with pytest.raises(stop), ResumableStoreWriter(path) as writer:
        for number in range(3):
            writer.add(str(number), np.full((2, 4), number, np.float16), {"label": 0}, {"x": [number, 1]})
        raise stop
    return path, tmp_path / "store.unfinished"


def finish(path):
    """Write the rest; returns the bags that were not written again."""
    with ResumableStoreWriter(path) as writer:
        kept = list(writer.finished)
        for number in range(4):
            writer.add(str(number), np.full((2, 4), number, np.float16), {"label": 1}, {"x": [number, 1]})
    return kept


@pytest.mark.parametrize(
    "damage", ["none", "half a bag", "flipped bit", "half a line", "no rows", "half the rows", "no tiles"]
)
def test_only_whole_bags_are_kept(damage, tmp_path):
    path, unfinished = half_written(tmp_path)
    tiles, journal = unfinished / "tiles.npy", unfinished / "finished.jsonl"
    content = bytearray(tiles.read_bytes())
    if damage == "half a bag":
        tiles.write_bytes(content[:-3])
    elif damage == "flipped bit":
        content[-3] ^= 1
        tiles.write_bytes(content)
    elif damage == "half a line":
        journal.write_bytes(journal.read_bytes()[:-20])
    elif damage == "no rows":
        (unfinished / "rows_1.npz").unlink()
    elif damage == "half the rows":
        (unfinished / "rows_1.npz").write_bytes((unfinished / "rows_1.npz").read_bytes()[:-30])
    elif damage == "no tiles":
        tiles.unlink()
    kept = {"none": 3, "no rows": 1, "half the rows": 1, "no tiles": 0}.get(damage, 2)
    assert finish(path) == [str(number) for number in range(kept)]
    expected = tmp_path / "fresh"
    finish(expected)
    assert bytes_of(path) == bytes_of(expected)
    assert not unfinished.exists()


def test_a_kill_while_the_store_is_completed_loses_nothing(tmp_path, monkeypatch):
    def stop(*arguments):
        raise KeyboardInterrupt

    path, _ = half_written(tmp_path)
    with monkeypatch.context() as patch:
        patch.setattr("milpath.data.store.bag_store_writer.sha256_of_file", stop)
        with pytest.raises(KeyboardInterrupt):
            finish(path)
    assert not path.exists()
    assert finish(path) == ["0", "1", "2", "3"]
    finish(tmp_path / "fresh")
    assert bytes_of(path) == bytes_of(tmp_path / "fresh")


def test_an_error_leaves_nothing(tmp_path):
    path, unfinished = half_written(tmp_path, ZeroDivisionError)
    assert not path.exists()
    assert not unfinished.exists()


def test_labels_may_be_corrected_before_it_goes_on(tmp_path):
    folder, stores = cohort(tmp_path / "in", num=6), tmp_path / "stores"
    kill_in_the_middle(folder, stores, 3)
    correct(folder / "labels.csv", 0, value=1)
    assert open_or_build(source_of(folder), stores).bags["label"].tolist() == [1, 1, 0, 1, 0, 1]
