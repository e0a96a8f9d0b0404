"""The command `milpath faithfulness`, and the section of an evaluation's report."""

import json
import shutil
from pathlib import Path

import numpy as np
import pandas as pd
import pytest

from milpath.data.store.bag_store_writer import BagStoreWriter
from tests.commands import here

FAITHFULNESS, EVALUATE = "milpath.faithfulness", "milpath.evaluate"
CHECKPOINT = "checkpoint=runs/a/checkpoints/best.ckpt"
QUICK = ["num_random=2", "num_resamples=50", "device=cpu"]
TRAIN = [
    "data=bag_store", "data.path=store", "data.group_column=patient", "data.num_folds=3", "model=gated_attention_mil",
    "model/encoder=linear", "model.encoder.hidden_dims=[8]", "optimizer.lr=0.02", "logger=none",
    "trainer.accelerator=cpu", "trainer.max_epochs=6", "trainer.enable_progress_bar=false", "report=false",
]  # fmt: skip


def write_store(folder: Path, num_bags: int = 36, prefix: str = "bag") -> None:
    """Write bags of ten tiles, half of them with a tile that has the marker of the class."""
    draw = np.random.default_rng(0)
    with BagStoreWriter(folder) as writer:
        for number in range(num_bags):
            tiles = draw.normal(size=(10, 6)).astype(np.float32)
            labels = np.zeros(10, np.int64)
            if number % 2:
                labels[draw.integers(10)] = 1
                tiles[labels == 1, 0] += 6
            patient = f"P{number // 2}"
            writer.add(
                f"{prefix}_{number:02}", tiles, {"label": number % 2, "patient": patient}, {"tile_label": labels}
            )


@pytest.fixture(scope="module")
def workplace(tmp_path_factory) -> Path:
    folder = tmp_path_factory.mktemp("faithfulness")
    write_store(folder / "store")
    write_store(folder / "other", 8, "other")
    for fold, name in enumerate("ab"):
        assert here("milpath.train", *TRAIN, f"data.fold={fold}", f"run_name={name}", cwd=folder) == 0
    return folder


def record_of(folder: Path) -> dict:
    return json.loads((folder / "faithfulness.json").read_text())


def test_the_test_split_of_the_run_is_measured_and_the_verdict_printed(workplace, capfd):
    assert here(FAITHFULNESS, CHECKPOINT, *QUICK, "output=one", cwd=workplace) == 0
    out, record = capfd.readouterr().out, record_of(workplace / "one")
    assert record["verdict"] in out
    assert "tile AUROC: attention" in out
    splits = pd.read_csv(workplace / "runs/a/splits.csv")
    table = pd.read_csv(workplace / "one/faithfulness.csv")
    assert sorted(table["bag_id"]) == sorted(splits.loc[splits["split"] == "test", "id"])
    assert (table["group"] == table["bag_id"].map(dict(zip(splits["id"], splits["group"], strict=True)))).all()
    assert record["num_groups"] == splits.loc[splits["split"] == "test", "group"].nunique()
    predictions = pd.read_csv(workplace / "runs/a/predictions.csv").set_index("id")
    of_one = predictions.loc[
        table["bag_id"], [name for name in predictions if name.startswith("probability")]
    ].to_numpy()
    np.testing.assert_allclose(table["value"], of_one.max(1), atol=1e-5)
    assert {each.name for each in (workplace / "one").iterdir()} >= {
        "report.html", "faithfulness.json", "faithfulness.csv", "faithfulness.svg", "config.yaml", "provenance.json",
    }  # fmt: skip


def test_other_data_are_measured_as_a_whole_and_two_checkpoints_compared(workplace, capfd):
    both = "checkpoint=[runs/a/checkpoints/best.ckpt,runs/b/checkpoints/best.ckpt]"
    words = ["data=bag_store", "data.path=other", "output=two", "explain=1"]
    assert here(FAITHFULNESS, both, *QUICK, *words, cwd=workplace) == 0
    record = record_of(workplace / "two")
    assert (record["num_bags"], record["num_networks"]) == (8, 2)
    assert record["quantity"] == "probability of 1"
    assert -1 <= record["between"]["spearman"][0] <= 1
    assert "agreement of attention between networks: spearman" in capfd.readouterr().out
    assert [each["path"] for each in record["networks"]] == [f"runs/{name}/checkpoints/best.ckpt" for name in "ab"]


def test_networks_of_two_folds_are_each_measured_on_the_bags_they_held_out(workplace):
    both = "checkpoint=[runs/a/checkpoints/best.ckpt,runs/b/checkpoints/best.ckpt]"
    assert here(FAITHFULNESS, both, *QUICK, "output=three", cwd=workplace) == 0
    table, record = pd.read_csv(workplace / "three/faithfulness.csv"), record_of(workplace / "three")
    for position, name in enumerate("ab"):
        splits = pd.read_csv(workplace / f"runs/{name}/splits.csv")
        own = table.loc[table["network"] == position, "bag_id"]
        assert sorted(own) == sorted(splits.loc[splits["split"] == "test", "id"])
    assert record["between"] == {}
    assert record["notes"][0] == (
        "each network is measured on the bags in test of its own run: 24 bags, each with 1 of 2 networks"
    )
    assert record["notes"][1].startswith("no two networks held out the same bag, so their attentions are not compared")


def test_folds_are_compared_on_bags_that_both_networks_held_out_apart_from_seeds(workplace, capfd):
    words = ["data.fold=0", "data.split_seed=1", "run_name=redrawn"]
    assert here("milpath.train", *TRAIN, *words, cwd=workplace) == 0
    shutil.copytree(workplace / "runs/a", workplace / "runs/again")
    names = ("a", "again", "redrawn")
    words = "checkpoint=[" + ",".join(f"runs/{name}/checkpoints/best.ckpt" for name in names) + "]"
    assert here(FAITHFULNESS, words, *QUICK, "output=folds", cwd=workplace) == 0
    held = {}
    for name in names:
        splits = pd.read_csv(workplace / f"runs/{name}/splits.csv")
        held[name] = set(splits.loc[splits["split"] == "test", "id"])
    assert held["a"] == held["again"] != held["redrawn"]
    record = record_of(workplace / "folds")
    assert record["num_bags"] == len(held["a"] | held["redrawn"])
    kinds = record["between_kinds"]
    assert kinds["trained on the same bags"]["num_bags"] == len(held["a"])
    assert kinds["trained on the same bags"]["spearman"][0] == pytest.approx(1)
    assert kinds["trained on other bags"]["spearman"][0] < 1
    assert kinds["trained on other bags"]["num_bags"] == len(held["a"] & held["redrawn"]) > 0
    difference = record["between_difference"]
    assert difference["words"] == "trained on other bags minus trained on the same bags"
    assert difference["num_bags"] == len(held["a"] & held["redrawn"])
    # The copy agrees with its original completely.
    expected = kinds["trained on other bags"]["spearman"][0] - 1
    assert difference["spearman"][0] == pytest.approx(expected, abs=1e-5)
    table = pd.read_csv(workplace / "folds/faithfulness.csv")
    assert set(table.loc[table["network"] == 2, "bag_id"]) == held["redrawn"]
    out, page = capfd.readouterr().out, (workplace / "folds/report.html").read_text()
    for kind in kinds:
        assert f"agreement of attention between networks {kind}: spearman" in out
        assert f"between networks {kind}, in" in page
    assert "agreement of those trained on other bags minus trained on the same bags" in page


def test_a_split_of_the_user_is_measured_by_all_networks_and_training_bags_are_said(workplace):
    both = "checkpoint=[runs/a/checkpoints/best.ckpt,runs/b/checkpoints/best.ckpt]"
    splits = pd.read_csv(workplace / "runs/a/splits.csv")[["id", "split"]]
    splits["split"] = np.where(splits.index < 10, "test", "train")
    splits.to_csv(workplace / "mine.csv", index=False)
    words = ["data=bag_store", "data.path=store", "data.splits=mine.csv", "output=mine"]
    assert here(FAITHFULNESS, both, *QUICK, *words, cwd=workplace) == 0
    record = record_of(workplace / "mine")
    trained = pd.read_csv(workplace / "runs/b/splits.csv").set_index("id")["split"] == "train"
    seen = int(trained[splits["id"][:10]].sum())
    assert (record["num_bags"], record["num_networks"]) == (10, 2)
    assert record["notes"][-1] == f"runs/b/checkpoints/best.ckpt was trained on {seen} of the 10 bags, by their names"


def test_a_second_measurement_does_not_replace_the_first_by_itself(workplace, run_here):
    assert here(FAITHFULNESS, CHECKPOINT, *QUICK, "output=again", "max_bags=3", cwd=workplace) == 0
    assert "3 of 12 bags are measured (max_bags), drawn with seed 0" in record_of(workplace / "again")["notes"]
    status, error = run_here(FAITHFULNESS, CHECKPOINT, *QUICK, "output=again", cwd=workplace)
    assert status == 1
    assert "again holds a measurement; give another output, or overwrite=true" in error
    status, error = run_here(FAITHFULNESS, CHECKPOINT, *QUICK, "output=runs/a", "overwrite=true", cwd=workplace)
    assert status == 1
    assert "runs/a holds the results of something else" in error
    assert here(FAITHFULNESS, CHECKPOINT, *QUICK, "output=again", "overwrite=true", cwd=workplace) == 0
    assert record_of(workplace / "again")["num_bags"] > 3


@pytest.mark.parametrize(
    ("word", "said"),
    [
        ("explain=tumour", "explain=tumour is not one of 0, 1"),
        ("share=1.5", "share=1.5 must be in (0, 1)"),
        ("splits=[test,nothing]", "splits=['test', 'nothing']: 'nothing' is not one of train, val, test"),
        ("augmentation=turns", "augmentation=turns is for tiles, and the network takes features"),
    ],
)
def test_what_cannot_be_measured_is_refused_in_one_line(workplace, run_here, word, said):
    status, error = run_here(FAITHFULNESS, CHECKPOINT, *QUICK, word, "output=bad", cwd=workplace)
    assert status == 1
    assert said in error
    assert error.count("\n") == 1
    assert not (workplace / "bad").exists()


def test_an_evaluation_has_the_section_only_if_it_is_asked_for(workplace, tmp_path, capfd):
    shutil.copytree(workplace, tmp_path, dirs_exist_ok=True)
    words = [CHECKPOINT, "trainer.accelerator=cpu", "run_name=e"]
    assert here(EVALUATE, *words, "faithfulness=true", cwd=tmp_path) == 0
    page, record = (tmp_path / "runs/e/report.html").read_text(), record_of(tmp_path / "runs/e")
    assert record["verdict"] in page
    assert record["verdict"] in " ".join(capfd.readouterr().out.split())
    assert 'id="plot-faithfulness-deletion"' in page
    # A later evaluation into the folder must not show what was measured with an earlier one.
    assert here(EVALUATE, *words, "overwrite=true", cwd=tmp_path) == 0
    assert "Is attention faithful?" not in (tmp_path / "runs/e/report.html").read_text()
    assert not list((tmp_path / "runs/e").glob("faithfulness.*"))
