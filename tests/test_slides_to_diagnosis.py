"""The commands of README's "From slides to a diagnosis", as written, on drawn slides of several patients."""

import json
import re
import shlex
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from PIL import Image

from milpath.models.checkpoint import load_card
from tests.pyramids import tissue, write_pyramid

pytest.importorskip("timm")
pytestmark = [pytest.mark.command, pytest.mark.slow]
# What makes the commands small; nothing else is added to them.
SMALL = {
    "extract": ["device=cpu", "tile_size=32"],
    "train": [
        "data.num_folds=4",
        "trainer.max_epochs=2",
        "trainer.accelerator=cpu",
        "callbacks.progress=null",
    ],
    "table": [
        "folds=4",
        "methods=[attention]",
        "trainer.max_epochs=1",
        "trainer.accelerator=cpu",
    ],
    "predict": ["device=cpu"],
}


def commands() -> list[tuple[str, list[str]]]:
    """Return name and words of each command of the section."""
    text = (Path(__file__).parents[1] / "README.md").read_text()
    section = text.split("## From slides to a diagnosis")[1].split("\n## ")[0]
    lines = re.search(r"```bash\n(.*?)```", section, re.DOTALL)[1].splitlines()
    return [(name, words) for _, name, *words in map(shlex.split, lines)]


def test_slides_become_features_a_network_and_attention_on_the_tissue(run_here, tmp_path):
    rows = []
    for number in range(16):
        write_pyramid(tmp_path / f"slides/slide {number}.tiff", tissue(80, 60, seed=number), factors=(4, 1))
        rows.append((f"slide {number}", number // 2 % 2, f"patient {number // 2}"))
    pd.DataFrame(rows, columns=["slide_id", "label", "patient_id"]).to_csv(tmp_path / "labels.csv", index=False)
    assert [name for name, _ in commands()] == ["extract", "train", "table", "predict"]
    for name, words in commands():
        status, message = run_here(f"milpath.{name}", *words, *SMALL[name], cwd=tmp_path)
        assert status == 0, message

    splits = pd.read_csv(tmp_path / "runs/features/splits.csv").merge(
        pd.DataFrame(rows, columns=["id", "label", "patient_id"])
    )
    assert len(splits) == 16
    assert splits.groupby("patient_id")["split"].nunique().eq(1).all()
    assert load_card(tmp_path / "runs/features/checkpoints/best.ckpt").encoder["name"] == "efficientnet_lite0"
    assert "attention" in (tmp_path / "table/report.html").read_text(encoding="utf-8")
    # Slides that are cut and encoded again have the predictions of the features.
    words = ["checkpoint=table", "method=attention", "slides=extracted", "output=of_features", "pictures=false"]
    status, message = run_here("milpath.predict", *words, *SMALL["predict"], cwd=tmp_path)
    assert status == 0, message
    stored = pd.read_csv(tmp_path / "of_features/predictions.csv").set_index("id")
    found = pd.read_csv(tmp_path / "predictions/predictions.csv").set_index("id").loc[stored.index]
    probabilities = [name for name in found if name.startswith("probability")]
    np.testing.assert_allclose(found[probabilities], stored[probabilities], atol=1e-4)
    attention = pd.read_csv(tmp_path / "predictions/attention.csv")
    np.testing.assert_allclose(attention.groupby("id")["weight"].sum(), 1, atol=1e-5)
    for bag_id, tiles in attention.groupby("id"):
        outlines = json.loads((tmp_path / f"predictions/geojson/{bag_id}.geojson").read_text())["features"][:-1]
        assert len(outlines) == len(tiles)
        for kind in ("overlay", "montage"):
            with Image.open(tmp_path / f"predictions/pictures/{bag_id}_{kind}.jpg") as picture:
                assert picture.width > 100
    assert (tmp_path / "predictions/pictures/extremes.jpg").exists()
