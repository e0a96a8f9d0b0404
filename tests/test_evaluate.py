"""Which bags an evaluation tests."""

import json
import shutil
from pathlib import Path

import pandas as pd
import pytest

from tests.commands import here
from tests.runs.test_resume import FEATURES, write_features, write_labels

EVALUATE = "milpath.evaluate"
WORDS = ["checkpoint=runs/a/checkpoints/best.ckpt", "trainer.accelerator=cpu", "report=false"]
OTHER = ["data=features", "data.path=other/feats", "data.labels=other/labels.csv"]
SAME = ["data=features", "data.path=in/feats", "data.labels=in/labels.csv"]


@pytest.fixture(scope="module")
def workplace(tmp_path_factory) -> Path:
    folder = tmp_path_factory.mktemp("evaluate")
    write_features(folder / "in", [0, 1] * 12)
    # Three bags of a class are too few for the five folds of training.
    write_features(folder / "other", [0] * 7 + [1] * 3)
    shutil.rmtree(folder / "other/feats")
    shutil.copytree(folder / "in/feats", folder / "other/feats")
    for path in sorted((folder / "other/feats").iterdir()):
        path.rename(path.with_name(path.name.replace("S", "X")))
    table = pd.read_csv(folder / "other/labels.csv")
    table["slide_id"] = table["slide_id"].str.replace("S", "X")
    table.to_csv(folder / "other/labels.csv", index=False)
    for path in sorted((folder / "other/feats").iterdir())[10:]:
        path.unlink()
    assert here("milpath.train", *FEATURES, "trainer.max_epochs=1", "run_name=a", cwd=folder) == 0
    return folder


def rows_of(folder: Path, name: str) -> pd.DataFrame:
    return pd.read_csv(folder / "runs" / name / "predictions.csv")


def note_of(folder: Path, name: str) -> str:
    return json.loads((folder / "runs" / name / "provenance.json").read_text())["data"].get("tested", "")


def record_of(folder: Path, name: str) -> dict:
    return json.loads((folder / "runs" / name / "provenance.json").read_text())["data"]


def fitted(folder: Path) -> set[str]:
    splits = pd.read_csv(folder / "runs/a/splits.csv", dtype=str)
    return set(splits.loc[splits["split"] != "test", "id"])


def test_every_bag_of_other_data_is_tested(workplace):
    assert here(EVALUATE, *WORDS, *OTHER, "run_name=other", cwd=workplace) == 0
    predictions = rows_of(workplace, "other")
    assert len(predictions) == 10
    assert set(predictions["split"]) == {"test"}
    assert note_of(workplace, "other") == ""
    # They are copies of the slides that the network was trained on, under other names.
    record, copies = record_of(workplace, "other"), sum(f"S{number:03}" in fitted(workplace) for number in range(10))
    said = f"same tiles: {copies} pairs of bags have the same tiles, {copies} of them in two splits"
    assert record["check"].startswith(f"data check: LEAK, {said}")
    assert record["warning"] == said


@pytest.mark.parametrize(
    ("words", "num_tested", "reason"),
    [
        (["data.num_folds=3"], 7, "7 of 10 bags are tested: 3 are in the split 'train' (data.num_folds=3 data.fold=0)"),
        (["data.exclude=[bad.csv]"], 9, "9 of 10 bags are tested: 1 are left out (data.exclude)"),
        (
            ["data.splits=split.csv"],
            1,
            "1 of 10 bags are tested: 1 are in the split 'train' (data.splits=split.csv), 8 are ",
        ),
    ],
    ids=["folds", "exclude", "splits"],
)
def test_where_not_every_bag_is_tested_the_summary_says_how_many_and_why(workplace, capfd, words, num_tested, reason):
    (workplace / "bad.csv").write_text("slide_id\nX001\n")
    (workplace / "split.csv").write_text("id,split\nX001,test\nX002,train\n")
    name = f"why_{num_tested}"
    assert here(EVALUATE, *WORDS, *OTHER, *words, f"run_name={name}", cwd=workplace) == 0
    assert len(rows_of(workplace, name)) == num_tested
    assert reason in capfd.readouterr().out
    assert note_of(workplace, name).startswith(reason)


def test_the_data_it_was_trained_on_keep_the_split_of_the_run(workplace):
    assert here(EVALUATE, *WORDS, *SAME, "run_name=same", cwd=workplace) == 0
    assert here(EVALUATE, *WORDS, "run_name=own", cwd=workplace) == 0
    pd.testing.assert_frame_equal(rows_of(workplace, "same"), rows_of(workplace, "own"))
    assert "train" not in set(rows_of(workplace, "same")["split"])
    assert note_of(workplace, "same").startswith("10 of 24 bags are tested: 14 are in the split 'train'")
    of_training = record_of(workplace, "a")["check"].partition("(")[0]
    assert of_training == record_of(workplace, "own")["check"].partition("(")[0]


def test_who_asks_for_the_bags_it_was_trained_on_is_told(workplace):
    assert here(EVALUATE, *WORDS, *SAME, "data.num_folds=1", "run_name=all", cwd=workplace) == 0
    assert len(rows_of(workplace, "all")) == 24
    assert note_of(workplace, "all").startswith("14 of the tested bags have the name of a training bag (first: S")
    count = len(fitted(workplace))
    said = f"data check: LEAK, trained bags: {count} of 24 bags to test are training or validation bags of the network"
    assert record_of(workplace, "all")["check"].startswith(said)


@pytest.mark.parametrize("words", [[], SAME], ids=["from the checkpoint", "given"])
def test_labels_that_changed_do_not_move_trained_bags_into_the_test_in_silence(workplace, run_here, tmp_path, words):
    shutil.copytree(workplace, tmp_path, dirs_exist_ok=True)
    shutil.rmtree(tmp_path / "stores")
    write_labels(tmp_path / "in/labels.csv", [1, 1, 0, 0] + [0, 1] * 10)
    status, error = run_here(EVALUATE, *WORDS, *words, "run_name=changed", cwd=tmp_path)
    assert status == 1
    assert "now give a split other than the one it was trained with" in error
    assert "data.splits=runs/a/splits.csv" in error
    typed = [*SAME, "data.splits=runs/a/splits.csv", "run_name=typed"]
    assert run_here(EVALUATE, *WORDS, *typed, cwd=tmp_path)[0] == 0
    assert len(rows_of(tmp_path, "typed")) == 10
