"""The three commands of "Your own images and labels", as written, on real images: from files and a table to a table by patient."""

import json
import re
import shlex
from pathlib import Path

import numpy as np
import pandas as pd
import pytest

pytest.importorskip("timm")
pytestmark = pytest.mark.command
PATIENTS = 8
# What makes the commands small; nothing else is added to them.
SMALL = {
    "extract": ["device=cpu", "num_workers=1", "num_tiles=3"],
    "table": ["folds=3", "trainer.max_epochs=2", "trainer.accelerator=cpu", "logger=none"],
    "predict": ["device=cpu", "num_workers=1"],
}


def commands() -> list[tuple[str, list[str]]]:
    """Return name and words of each command of the section."""
    text = (Path(__file__).parents[1] / "docs/quick-start.md").read_text(encoding="utf-8")
    section = text.split("## Your own images and labels")[1].split("\n## ")[0]
    lines = re.search(r"```bash\n(.*?)```", section, re.DOTALL)[1].splitlines()
    assert len("".join(section.split("```bash")[1].split("```")[0]).strip().splitlines()) == 3
    return [(name, words) for _, name, *words in map(shlex.split, lines)]


@pytest.fixture(scope="module")
def road(shared_data, tmp_path_factory) -> Path:
    """A new folder with the table of labels as it is and the images of some patients; the others are skipped by name."""
    glas, folder = shared_data / "glas", tmp_path_factory.mktemp("road")
    table = pd.read_csv(glas / "labels.csv")
    # Two images of each class and patient at most.
    chosen = table[table["patient"].isin(sorted(table["patient"].unique())[:PATIENTS])]
    chosen = chosen.groupby(["patient", "label"]).head(2)
    (folder / "images").mkdir()
    for name in chosen["image"]:
        (folder / name).symlink_to(glas / name)
    chosen.to_csv(folder / "labels.csv", index=False)
    return folder


@pytest.mark.filterwarnings("ignore")
def test_three_commands_lead_from_image_files_to_a_table_by_patient_and_overlays(road, run_here):
    labels = pd.read_csv(road / "labels.csv")
    assert {"image", "patient", "split"} <= set(labels)
    assert labels["image"].str.startswith("images/").all()  # not the names of the bags: matched by stem
    assert [name for name, _ in commands()] == ["extract", "table", "predict"]
    for name, words in commands():
        status, message = run_here(f"milpath.{name}", *words, *SMALL[name], cwd=road)
        assert status == 0, message

    table = json.loads((road / "table/table.json").read_text())
    (row,) = table["rows"]
    assert row["folds_done"] == 3
    assert row["mean"] > 0.5
    assert 0 <= row["balanced_accuracy"] <= 1
    assert any(f"of {PATIENTS} groups; each group is tested in one fold only" in note for note in table["notes"])
    assert "Balanced accuracy" in (road / "table/report.html").read_text()
    patient_of = dict(zip(labels["image"].str.extract(r"/(.*)\.")[0], labels["patient"], strict=True))
    for run in sorted((road / "table/runs/gated_attention/repeat_0").iterdir()):
        splits = pd.read_csv(run / "splits.csv")
        assert set(splits["id"]) == set(patient_of)
        assert splits.groupby(splits["id"].map(patient_of))["split"].nunique().eq(1).all()
        # The table's own column `split` is not the split of a fold.
        assert not (splits.set_index("id")["split"] == "train").all()

    predicted = pd.read_csv(road / "predictions/predictions.csv")
    assert set(predicted["id"]) == set(patient_of)
    overlays = {path.name for path in (road / "predictions/pictures").glob("*_overlay.jpg")}
    assert overlays == {f"{name}_overlay.jpg" for name in patient_of}
    # Tiles that are mostly beyond the edge of an image are left out; quality.csv counts the others.
    tiles = pd.read_csv(road / "features/tiles.csv").merge(pd.read_csv(road / "features/bags.csv"), on="bag_id")
    inside = [
        (np.minimum(tiles[edge] + 224, tiles[size]) - np.maximum(tiles[edge], 0)) / 224
        for edge, size in (("x0", "width"), ("y0", "height"))
    ]
    inside = inside[0] * inside[1]
    assert inside.between(0.5, 1).all()
    quality = pd.read_csv(road / "features/quality.csv").set_index("bag_id")["num_partly_outside"]
    assert quality.to_dict() == (inside < 1).groupby(tiles["bag_id"]).sum().to_dict()
