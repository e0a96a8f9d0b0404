"""Bags of a training, and their patients, among those that a network is tested on."""

import numpy as np
import pytest

from milpath.checks.evaluation_check import TrainedBags, check_for_evaluation
from milpath.data.datamodule import BagDataModule
from milpath.data.store.bag_store import BagStore
from milpath.data.store.bag_store_writer import BagStoreWriter
from milpath.data.store.stored_bags import StoredBags

SPLITS = {"a0": "train", "a1": "train", "a2": "val", "a3": "test"}
PATIENTS = {"a0": "group P0", "a1": "group P1", "a2": "group P2", "a3": "group P3"}


def write(folder, bags, seed, width=4):
    draw = np.random.default_rng(seed)
    with BagStoreWriter(folder) as writer:
        for number, (name, patient) in enumerate(bags.items()):
            tiles = draw.normal(size=(3, width)).astype(np.float32)
            writer.add(name, tiles, {"label": number % 2, "patient_id": patient}, None)
    return folder


@pytest.fixture
def trained(tmp_path):
    store = write(tmp_path / "trained", {name: group.split()[1] for name, group in PATIENTS.items()}, 0)
    return TrainedBags(SPLITS, PATIENTS, str(store), BagStore.open(store).array_sha256)


def check(tmp_path, store, trained, **options):
    datamodule = BagDataModule(StoredBags(str(store)), stores_dir=str(tmp_path), num_folds=1, **options)
    datamodule.setup("test")
    return check_for_evaluation(datamodule, ["test"], [trained])


def test_other_slides_of_other_patients_are_said_to_be_clean(trained, tmp_path):
    found = check(tmp_path, write(tmp_path / "other", {"b0": "Q0", "b1": "Q1", "b2": "Q2"}, 1), trained)
    assert not found.is_warning
    assert found.leak == ""
    assert found.line.startswith(
        "data check: no two of 6 bags have the same tiles; none of 6 values of patient_id is in two splits ("
    )


@pytest.mark.parametrize("options", [{}, {"group_column": "patient_id"}], ids=["by its usual name", "as a group"])
def test_another_slide_of_a_patient_of_the_training_is_a_leak(trained, tmp_path, options):
    found = check(tmp_path, write(tmp_path / "other", {"b0": "P1", "b1": "P3", "b2": "Q2"}, 1), trained, **options)
    assert "LEAK, patients across splits: 1 of 5 values of patient_id are in more than one split" in found.line
    assert "(P1: test 1, train 1)" in found.line
    assert found.leak.startswith("patients across splits: 1 of 5 values")


def test_a_copy_under_another_name_and_another_patient_is_a_leak(trained, tmp_path):
    found = check(tmp_path, write(tmp_path / "other", {"b0": "Q0", "b1": "Q1", "b2": "Q2"}, 0), trained)
    assert "LEAK, same tiles: 3 pairs of bags have the same tiles, 3 of them in two splits" in found.line
    assert "b0 (test, patient Q0) and a0 (train, patient P0)" in found.line


def test_a_copy_under_its_own_name_is_a_leak_as_well(trained, tmp_path):
    found = check(tmp_path, write(tmp_path / "other", {"a0": "P0", "b1": "Q1", "b2": "Q2"}, 0), trained)
    assert (
        "3 pairs of bags have the same tiles, 3 of them in two splits, 2 under two values of patient_id" in found.line
    )


@pytest.mark.parametrize("why", ["gone", "another", "width"])
def test_tiles_that_cannot_be_compared_are_said_to_be_unknown(trained, tmp_path, why):
    if why == "gone":
        trained = trained._replace(store=str(tmp_path / "nowhere"))
    elif why == "another":
        trained = trained._replace(store_sha256="0" * 64)
    store = write(tmp_path / "other", {"b0": "P1", "b1": "Q1", "b2": "Q2"}, 0, width=5 if why == "width" else 4)
    found = check(tmp_path, store, trained)
    assert "LEAK, patients across splits" in found.line
    assert "the tiles of the training are not at hand" in found.line
    assert "same tiles;" not in found.line


def test_bags_of_the_training_in_a_split_of_the_user_are_a_leak(trained, tmp_path):
    found = check(tmp_path, trained.store, trained)
    assert found.leak.startswith("trained bags: 3 of 4 bags to test are training or validation bags of the network")


def test_a_run_without_a_record_is_said(trained, tmp_path):
    found = check(tmp_path, trained.store, trained._replace(splits={}))
    assert (
        found.line
        == "data check: the run left no record of its training bags, so tested bags are not compared with them"
    )
