import numpy as np
import pytest

from milpath.data.store.bag_store import BagStore
from milpath.data.store.bag_store_writer import BagStoreWriter
from milpath.data.store.resolution_match import compare_resolution, trained_resolution
from milpath.records.tile_resolution import TRAINED


def store_of(folder, microns, **extra):
    """Write a store of three slides with the microns per pixel of each."""
    with BagStoreWriter(folder, extra=extra) as writer:
        for number, value in enumerate(microns):
            label = {} if value == "none" else {"microns_per_pixel": value}
            writer.add(f"slide {number}", np.zeros((2, 8, 8, 3), np.uint8), label, {})
    return BagStore.open(folder)


def test_a_card_keeps_the_resolution_of_the_training(tmp_path):
    store = store_of(tmp_path / "a", [0.5, 0.499, 0.52])
    assert trained_resolution(store) == {TRAINED: [0.499, 0.52]}
    assert trained_resolution(store_of(tmp_path / "b", [0.5, None, 0.5])) == {}
    assert trained_resolution(store_of(tmp_path / "c", ["none"] * 3)) == {}
    assert trained_resolution(store_of(tmp_path / "d", ["none"] * 3, microns_per_pixel=2.0)) == {TRAINED: [2.0, 2.0]}


def test_the_resolution_of_the_training_is_accepted_and_another_is_refused(tmp_path):
    store = store_of(tmp_path / "a", [0.5, 0.46, 0.6])
    assert compare_resolution({TRAINED: [0.5, 0.5]}, store) is None
    assert compare_resolution({"microns_per_pixel": 0.5}, store) is None
    with pytest.raises(
        ValueError,
        match=r"3 of 3 slides have tiles of another resolution than the network was trained at \(8 microns per pixel; "
        r"first: 'slide 0' with 0\.5\); cut them with python -m milpath\.tile microns_per_pixel=8",
    ):
        compare_resolution({TRAINED: [8.0, 8.0]}, store)
    with pytest.raises(ValueError, match=r"1 of 3 slides .*'slide 2' with 0\.6"):
        compare_resolution({TRAINED: [0.4, 0.47]}, store)
    said = compare_resolution({TRAINED: [8.0, 8.0]}, store, "allow")
    assert said is not None
    assert "another resolution" in said


def test_what_is_unknown_is_said(tmp_path):
    some = store_of(tmp_path / "a", [0.5, None, 0.5])
    assert compare_resolution({TRAINED: [0.5, 0.5]}, some) == (
        "the resolution of 1 of 3 bags is unknown (first: 'slide 1'); the network was trained at 0.5 microns per pixel"
    )
    known = store_of(tmp_path / "b", [0.5, 8.0, 0.5])
    assert compare_resolution({"tile_size": 8}, known) == (
        "the checkpoint does not say at what resolution it was trained; the tiles have 0.5 to 8 microns per pixel"
    )
    # Digits and features of no slide have none, and nobody waits for one.
    assert compare_resolution({}, store_of(tmp_path / "c", ["none"] * 3)) is None
