"""The command `milpath check-data`, and the line that a training says, in this process."""

import json
import logging

import numpy as np
import pandas as pd
import pytest

from milpath.checks.training_check import check_for_training
from milpath.data.datamodule import BagDataModule
from milpath.data.store.bag_store_writer import BagStoreWriter
from tests.commands import here


@pytest.fixture(scope="module")
def store(tmp_path_factory):
    """Thirty patients of two slides as features; slide 1 is a copy of slide 40, and the scanner is in feature 0."""
    folder = tmp_path_factory.mktemp("data")
    rng = np.random.default_rng(0)
    with BagStoreWriter(folder / "store") as writer:
        first = None
        for number in range(60):
            scanner = number // 2 % 2
            tiles = rng.normal(size=(5, 8)).astype(np.float32)
            tiles[:, 0] += 5 * scanner
            first = tiles if number == 1 else first
            row = {
                "label": number // 2 % 3 % 2, "patient_id": f"P{number // 2}", "scanner": ["aperio", "leica"][scanner],
                "part": "test" if number >= 40 else "train",
            }  # fmt: skip
            writer.add(f"slide_{number:02d}", first if number == 40 else tiles, row, None)
    return folder / "store"


def words(store, *more):
    return [
        "data=bag_store",
        f"data.path={store}",
        "data.split_column=part",
        "num_permutations=199",
        "num_resamples=99",
        *more,
    ]


def test_the_column_of_a_number_is_not_compared_with_itself(store, tmp_path, capsys):
    given = ["target=regression", "target.columns=[label]", "columns=[]", "output=numbers"]
    assert here("milpath.check_data", *words(store, *given), cwd=tmp_path) == 0
    compared = json.loads((tmp_path / "numbers/data_check.json").read_text())["associations"]
    assert "scanner" in {row["name"] for row in compared}
    assert "label" not in {row["name"] for row in compared}


def test_a_store_is_checked_with_its_split_tiles_and_features(store, tmp_path, capsys):
    assert here("milpath.check_data", *words(store), "output=checked", cwd=tmp_path) == 0
    lines = capsys.readouterr().out.splitlines()
    assert lines[0] == "60 bags; 30 values of patient_id; splits test 20, train 40"
    assert (
        "leak      same tiles: 1 pair of bags have the same tiles, byte for byte, 1 of them in two splits" in lines[2]
    )
    assert lines[3].strip() == "slide_01 (train, patient P0) and slide_40 (test, patient P20): all 5 tiles are the same"
    text = "\n".join(lines)
    assert "none of 30 values of patient_id is in two splits" in text
    assert "scanner can be told from the mean features: AUROC" in text
    assert "no association beyond chance" in text
    record = json.loads((tmp_path / "checked" / "data_check.json").read_text())
    assert record["environment"]["code"]
    assert record["probes"][0]["name"] == "scanner"
    groups = pd.read_csv(tmp_path / "checked" / "groups.csv").set_index("image_id")["group"]
    assert groups["slide_01"] == groups["slide_40"]
    # The groups are what a training reads.
    again = words(store, "data.split_column=null", f"data.groups={tmp_path}/checked/groups.csv", "output=again")
    assert here("milpath.check_data", *again, cwd=tmp_path) == 0
    said = capsys.readouterr().out
    assert "1 pair of bags have the same tiles, byte for byte, 0 of them in two splits" in said
    assert "29 values of the groups of data.groups" in said


@pytest.mark.parametrize(
    ("given", "message"),
    [
        ([], "nothing to check: give data=NAME as in milpath train, or labels=TABLE, or slides=FOLDER"),
        (["group_column=x"], "group_column belongs to a table; give labels=TABLE"),
        (["checkpoint=x.ckpt"], "checkpoint needs the tiles or features that it predicts"),
        (["labels=none.csv"], "no table at none.csv"),
        (["labels=labels.csv", "label_column=grade"], "label_column=grade needs the column 'grade'"),
        (
            ["labels=labels.csv", "split_column=label", "splits_path=labels.csv"],
            "give split_column=label or splits_path=",
        ),
        (["labels=labels.csv", "target=regression"], "target is that of a training: give data=NAME with it"),
        (["labels=labels.csv", "max_distance=100"], "max_distance is 100; it must be from 0 to 80"),
        (["labels=labels.csv", "num_permutations=9"], "num_permutations is 9; it must be 99 or more"),
        (["data=bag_store", "data.path=x", "labels=labels.csv"], "give data.labels instead of labels"),
    ],
)
def test_mistakes_are_one_line(given, message, tmp_path, capfd):
    pd.DataFrame({"slide_id": ["a", "b"], "label": [0, 1]}).to_csv(tmp_path / "labels.csv", index=False)
    assert here("milpath.check_data", *given, cwd=tmp_path) == 1
    said = capfd.readouterr().err
    assert message in said
    assert said.count("\n") == 1


def datamodule_of(store, tmp_path, **options):
    from milpath.data.store.stored_bags import StoredBags

    datamodule = BagDataModule(StoredBags(str(store)), stores_dir=str(tmp_path), **options)
    datamodule.setup()
    return datamodule


def test_a_training_says_in_one_line_what_is_on_two_sides(store, tmp_path):
    checked = check_for_training(datamodule_of(store, tmp_path, split_column="part"))
    assert checked.is_warning
    assert checked.line.startswith(
        "data check: LEAK, same tiles: 1 pair of bags have the same tiles, 1 of them in two splits"
    )
    assert "slide_01 (train, patient P0) and slide_40 (test, patient P20)" in checked.line
    assert checked.line.endswith("milpath check-data also compares thumbnails, names and labels)")
    assert checked.leak == (
        "same tiles: 1 pair of bags have the same tiles, 1 of them in two splits, 1 under two values of patient_id"
    )


def test_a_training_that_splits_patients_is_warned_although_nobody_named_them(store, tmp_path):
    """Without data.group_column a split is by slide: the column of the patient is known by its name."""
    checked = check_for_training(datamodule_of(store, tmp_path))
    assert "patients across splits: " in checked.leak
    assert "values of patient_id are in more than one split" in checked.leak
    assert "data.group_column=patient_id" in checked.line


def test_clean_data_are_said_to_be_clean(store, tmp_path):
    exclude = tmp_path / "exclude.csv"
    exclude.write_text("bag_id\nslide_40\n")
    checked = check_for_training(datamodule_of(store, tmp_path, group_column="patient_id", exclude=[str(exclude)]))
    assert not checked.is_warning
    assert checked.leak == ""
    assert checked.line.startswith(
        "data check: no two of 59 bags have the same tiles; none of 30 values of patient_id is in two splits ("
    )


def test_the_line_is_logged_and_a_leak_stands_in_the_run(store, tmp_path, caplog):
    given = ["data=bag_store", f"data.path={store}", "data.split_column=part", "trainer.max_epochs=1", "run_name=leaky"]
    given += ["callbacks=none", "trainer.accelerator=cpu", "logger=none", "report=false"]
    with caplog.at_level(logging.INFO):
        assert here("milpath.train", *given, cwd=tmp_path) == 0
    record = json.loads((tmp_path / "runs" / "leaky" / "provenance.json").read_text())
    assert record["data"]["check"].startswith("data check: LEAK, same tiles: 1 pair")
    assert record["data"]["warning"].startswith("same tiles: 1 pair of bags have the same tiles")
