"""From the tables of clinics to tested networks: words as classes, other columns, other formats."""

import json
import shutil
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
import torch

from milpath.models.checkpoint import load_card
from tests.commands import here

FEATURES = ["data=features", "data.path=feats", "model/encoder=linear", "model.encoder.hidden_dims=[16]"]
SHORT = ["trainer.accelerator=cpu", "logger=csv", "callbacks.progress=null", "trainer.max_epochs=1"]
EVALUATE = ["checkpoint=runs/words/checkpoints/best.ckpt", "trainer.accelerator=cpu", "report=false"]
WORDS = ["MSS", "MSI-H"]


def write_table(
    path: Path, words: list[str], prefix: str = "S", suffix: str = ".svs", encoding: str = "utf-16"
) -> None:
    """Write `Slide ID;MSI status;split;start`, where split and start are the clinic's own."""
    rows = [f"{prefix}{number:02d}{suffix};{word};train;2020" for number, word in enumerate(words)]
    path.write_bytes("\r\n".join(["Slide ID;MSI status ;split;start", *rows]).encode(encoding))


@pytest.fixture(scope="module")
def workplace(tmp_path_factory) -> Path:
    folder = tmp_path_factory.mktemp("clinic")
    rng = np.random.default_rng(0)
    for feats, prefix, count in (("feats", "S", 20), ("other_feats", "X", 6)):
        (folder / feats).mkdir()
        for number in range(count):
            features = rng.normal(size=(4, 8)).astype(np.float32) + 2 * (number % 2)
            torch.save(torch.from_numpy(features), folder / feats / f"{prefix}{number:02d}.pt")
    write_table(folder / "clinic.csv", WORDS * 10)
    words = [
        *FEATURES,
        *SHORT,
        "data.labels=clinic.csv",
        "data.label_column=msi_status",
        "data.class_names=[MSS,MSI-H]",
    ]
    assert here("milpath.train", *words, "run_name=words", cwd=folder) == 0
    return folder


def test_the_words_are_the_classes_of_card_table_and_report(workplace):
    run = workplace / "runs/words"
    assert load_card(run / "checkpoints/best.ckpt").class_names == ("MSS", "MSI-H")
    table = pd.read_csv(run / "predictions.csv")
    assert [name for name in table if name.startswith("probability_")] == ["probability_MSS", "probability_MSI-H"]
    assert (table["label"] == table["id"].str[1:].astype(int) % 2).all()
    assert "MSI-H" in (run / "report.html").read_text(encoding="utf-8")
    # A column of the clinic called split is not the split of the run.
    assert pd.read_csv(run / "splits.csv")["split"].value_counts().to_dict() == {"train": 12, "val": 4, "test": 4}


def test_another_table_with_the_same_words_keeps_the_order_of_the_network(workplace):
    pd.DataFrame({"id": [f"X{number:02d}" for number in range(6)], "label": ["msi-h", "MSS"] * 3}).to_csv(
        workplace / "other.csv", index=False
    )
    words = ["data=features", "data.path=other_feats", "data.labels=other.csv", "run_name=other"]
    assert here("milpath.evaluate", *EVALUATE, *words, cwd=workplace) == 0
    assert pd.read_csv(workplace / "runs/other/predictions.csv")["label"].tolist() == [1, 0] * 3
    assert load_card(workplace / "runs/words/checkpoints/best.ckpt").class_names == ("MSS", "MSI-H")


def test_a_word_that_the_network_does_not_know_is_refused_by_name(workplace, run_here):
    write_table(workplace / "unknown.csv", ["MSS", "MSI-H", "MSI-L"] * 2, prefix="X", encoding="cp1252")
    words = ["data=features", "data.path=other_feats", "data.labels=unknown.csv", "data.label_column=MSI status"]
    status, error = run_here("milpath.evaluate", *EVALUATE, *words, "run_name=unknown", cwd=workplace)
    assert status == 1
    assert (
        "column 'MSI status' has 'MSI-L', not one of the classes of the network (MSS, MSI-H): slide 'X02' in row 4"
        in error
    )
    assert error.count("\n") == 1


@pytest.mark.parametrize(
    ("text", "words", "message"),
    [
        ("slide_id,label\nS00,1\nS01,2\n", [], "none"),
        (None, [], "data.target=label needs the column 'label'; the data have bag_id, MSI status, split, start"),
        (None, ["data.label_column=MSI status", "data.class_names=[low,high]"], "has 'MSI-H', 'MSS', not one of data.class_names"),
        (None, ["data.label_column=start"], "column 'start' has the labels 2020, but no slide has label 0"),
        (None, ["data.label_column=MSI status", "data.num_folds=11"], "fewer than data.num_folds=11"),
    ],
)  # fmt: skip
def test_a_wrong_table_fails_before_anything_is_copied(workplace, tmp_path, run_here, text, words, message):
    shutil.copytree(workplace / "feats", tmp_path / "feats")
    write_table(tmp_path / "labels.csv", WORDS * 10)
    if text:
        (tmp_path / "labels.csv").write_text(text)
    status, error = run_here("milpath.train", *FEATURES, *SHORT, "data.labels=labels.csv", *words, cwd=tmp_path)
    assert status == 1
    assert message in error or (message == "none" and "bags in feats have no row in labels.csv" in error)
    assert error.count("\n") == 1
    assert not list((tmp_path / "stores").glob("FeatureBags-*"))


def test_the_split_of_a_table_is_used_when_it_is_named(workplace):
    table = pd.DataFrame({"id": [f"S{number:02d}" for number in range(20)], "label": WORDS * 10})
    table["Cohort"] = ["train"] * 12 + ["val"] * 4 + ["test"] * 4
    table.to_csv(workplace / "cohorts.csv", index=False)
    words = [
        *FEATURES,
        *SHORT,
        "data.labels=cohorts.csv",
        "data.split_column=cohort",
        "report=false",
        "run_name=cohorts",
    ]
    assert here("milpath.train", *words, cwd=workplace) == 0
    found = pd.read_csv(workplace / "runs/cohorts/splits.csv").set_index("id")["split"]
    assert found[table["id"]].tolist() == table["Cohort"].tolist()
    assert json.loads((workplace / "runs/cohorts/metrics.json").read_text())
