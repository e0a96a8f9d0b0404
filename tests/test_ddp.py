"""Several processes for real give the numbers of one."""

import json
import re
import subprocess
import sys
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
import torch

from milpath.models import load_card, load_network
from tests.commands import DDP, DETERMINED_RUN, here, milpath

pytestmark = pytest.mark.slow


@pytest.fixture(scope="module")
def workplace(tmp_path_factory) -> Path:
    folder = tmp_path_factory.mktemp("ddp")
    here("milpath.train", *DETERMINED_RUN, "run_name=one", "data.batch_size=6", cwd=folder)
    return folder


def results(folder: Path, name: str) -> tuple[dict, pd.DataFrame]:
    run_dir = folder / "runs" / name
    return json.loads((run_dir / "metrics.json").read_text()), pd.read_csv(run_dir / "predictions.csv")


TORCHRUN = [sys.executable, "-m", "torch.distributed.run", "--standalone", "--nproc-per-node=2", "-m", "milpath.train"]


@pytest.mark.parametrize(("launcher", "devices", "batch_size"), [("torchrun", 2, 3), ("lightning", 3, 2)])
def test_training_on_many_processes_equals_one_with_the_batch_of_all(workplace, launcher, devices, batch_size):
    name = f"train_{devices}"
    words = [*DETERMINED_RUN, *DDP, f"trainer.devices={devices}", f"data.batch_size={batch_size}", f"run_name={name}"]
    if launcher == "torchrun":
        result = subprocess.run([*TORCHRUN, *words], cwd=workplace, check=True, capture_output=True, text=True)
    else:
        result = milpath("train", *words, cwd=workplace)
    for checkpoint in ("last.ckpt", "best.ckpt"):
        one, many = (load_network(workplace / "runs" / run / "checkpoints" / checkpoint) for run in ("one", name))
        torch.testing.assert_close(many.state_dict(), one.state_dict(), atol=1e-5, rtol=1e-5)
    one, many = (load_card(workplace / "runs" / run / "checkpoints/best.ckpt").familiarity for run in ("one", name))
    assert many["num_bags"] == one["num_bags"] == 18
    for part in ("bags", "tiles"):
        torch.testing.assert_close(many[part]["mean"], one[part]["mean"], atol=1e-4, rtol=1e-3)
        torch.testing.assert_close(many[part]["variances"], one[part]["variances"], atol=1e-5, rtol=1e-2)
    one_metrics, one_predictions = results(workplace, "one")
    many_metrics, many_predictions = results(workplace, name)
    for split, values in one_metrics.items():
        assert many_metrics[split] == pytest.approx(values, abs=1e-5)
    assert many_predictions["id"].tolist() == one_predictions["id"].tolist()
    one_log, many_log = (pd.read_csv(workplace / f"runs/{run}/logs/csv/metrics.csv") for run in ("one", name))
    pd.testing.assert_frame_equal(many_log, one_log, atol=1e-5, rtol=0)
    # Every value that is logged is that of all processes already.
    assert "sync_dist" not in result.stderr


def test_evaluation_counts_every_bag_once_and_gives_equal_numbers(workplace):
    checkpoint = workplace / "runs/one/checkpoints/best.ckpt"
    words = [f"checkpoint={checkpoint}", "splits=[train,val,test]", "report=true"]
    milpath("evaluate", *words, *DDP, "trainer.devices=3", "run_name=evaluate_3", cwd=workplace)
    one_metrics, one_predictions = results(workplace, "one")
    many_metrics, many_predictions = results(workplace, "evaluate_3")
    assert len(many_predictions) == 23
    assert many_predictions["id"].is_unique
    for split, values in one_metrics.items():
        assert many_metrics[split] == pytest.approx(values, abs=1e-6)
    attention = [
        np.concatenate(frame.pop("attention").map(json.loads)) for frame in (many_predictions, one_predictions)
    ]
    np.testing.assert_allclose(*attention, atol=1e-6)
    # A score is a logarithm of distances in spreads of the validation bags, which are two.
    scores = [frame.pop("unfamiliarity_score") for frame in (many_predictions, one_predictions)]
    np.testing.assert_allclose(*scores, atol=1e-3)
    pd.testing.assert_frame_equal(many_predictions, one_predictions, atol=1e-6, rtol=0)
    here("milpath.evaluate", *words, "trainer.accelerator=cpu", "run_name=evaluate_1", cwd=workplace)
    assert reported(workplace, "evaluate_3") == reported(workplace, "evaluate_1")


def reported(folder: Path, name: str) -> list[str]:
    """Return the numbers of a report as a person reads them: headline and tables."""
    page = (folder / "runs" / name / "report.html").read_text().partition('<section id="run"')[0]
    cells = re.findall(r"<(dt|dd|th|td)\b[^>]*>(.*?)</\1>", page, re.DOTALL)
    assert len(cells) > 20
    return [text for _, text in cells]
