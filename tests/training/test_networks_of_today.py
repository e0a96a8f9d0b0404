"""Networks with auxiliary losses and random parts in a training run: reproducible, resumable, and reported per class."""

import json
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
import torch

from tests.commands import SMALL_RUN, here

pytestmark = [pytest.mark.command, pytest.mark.filterwarnings("ignore")]
TRAIN = "milpath.train"
RANDOM = {
    "acmil": ["model=acmil", "auxiliary_loss=acmil_branches", "model.hidden_dim=16", "model.num_masked=4"],
    "dtfd_mil": ["model=dtfd_mil", "auxiliary_loss=dtfd_pseudo_bags", "model.hidden_dim=16", "model.num_pseudo_bags=2"],
}


def weights(run_dir: Path) -> dict[str, torch.Tensor]:
    return torch.load(run_dir / "checkpoints/last.ckpt", weights_only=True)["state_dict"]


@pytest.mark.parametrize("name", RANDOM)
def test_a_run_that_goes_on_ends_with_the_weights_of_the_uninterrupted_one(name, tmp_path):
    words = [*SMALL_RUN, *RANDOM[name], "callbacks.early_stopping=null", "optimizer.lr=0.01"]
    runs = {"whole": ["2"], "again": ["2"], "stopped": ["1", "2"]}
    for run_name, epochs in runs.items():
        for number in epochs:
            more = [f"run_name={run_name}", f"trainer.max_epochs={number}", "resume_from=auto"]
            assert here(TRAIN, *words, *more, cwd=tmp_path) == 0
    whole, again, stopped = (weights(tmp_path / "runs" / run_name) for run_name in runs)
    assert any("branch_layers" in key or "pseudo_bag_layer" in key for key in whole)
    for key, value in whole.items():
        assert torch.equal(again[key], value), key
        assert torch.equal(stopped[key], value), key


@pytest.mark.parametrize(
    ("words", "maps"),
    [
        (["model=clam_mb", "auxiliary_loss=clam_clustering"], ["attention_benign", "attention_malignant"]),
        (["model=additive_mil"], ["contribution_malignant"]),
    ],
    ids=["clam_mb", "additive_mil"],
)
def test_a_run_writes_and_reports_a_map_per_class(words, maps, tmp_path):
    small = [word for word in SMALL_RUN if not word.startswith("report")]
    assert here(TRAIN, *small, *words, "trainer.max_epochs=1", "run_name=run", cwd=tmp_path) == 0
    run_dir = tmp_path / "runs/run"
    table = pd.read_csv(run_dir / "predictions.csv")
    assert [name for name in table.columns if name.startswith(("attention_", "contribution_"))] == maps
    for name in maps:
        totals = np.array([sum(json.loads(values)) for values in table[name]])
        if name.startswith("attention_"):
            np.testing.assert_allclose(totals, 1, atol=1e-5)
        else:
            # Not calibrated, contributions add up to the log-odds of the second class.
            odds = np.log(table["probability_malignant"] / table["probability_benign"])
            temperature = totals / odds
            np.testing.assert_allclose(temperature, temperature[0], rtol=1e-2)
    pictures = list((run_dir / "report_files").glob("*_map_*.jpg"))
    assert len(pictures) >= len(maps)
    content = (run_dir / "report.html").read_text()
    assert all(
        f"{'attention for' if 'attention' in name else 'contribution to'} {name.split('_')[1]}" in content
        for name in maps
    )
