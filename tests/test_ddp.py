"""Several processes for real: the same numbers, and an end where one of them fails."""

import json
import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
import torch

from milpath.models import load_network
from tests.commands import SMALL_RUN, milpath

# 23 bags and batches of 3: neither divides by 2 or 3 processes, and the test split has 2 bags, fewer than 3 processes.
# Without dropout and augmentation all is determined.
WORDS = [
    *SMALL_RUN,
    "data.num_slides=23",
    "data.num_folds=11",
    "data.augmentation=none",
    "model.encoder.dropout=0.0",
    "optimizer=sgd",
    "optimizer.lr=0.01",
    "trainer.max_epochs=2",
    "callbacks.early_stopping=null",
]
DDP = ["trainer=ddp", "trainer.accelerator=cpu"]


@pytest.fixture(scope="module")
def workplace(tmp_path_factory) -> Path:
    folder = tmp_path_factory.mktemp("ddp")
    milpath("train", *WORDS, "run_name=one", "data.batch_size=6", cwd=folder)
    return folder


def results(folder: Path, name: str) -> tuple[dict, pd.DataFrame]:
    run_dir = folder / "runs" / name
    return json.loads((run_dir / "metrics.json").read_text()), pd.read_csv(run_dir / "predictions.csv")


@pytest.mark.parametrize(("devices", "batch_size"), [(2, 3), (3, 2)])
def test_training_on_many_processes_equals_one_with_the_batch_of_all(workplace, devices, batch_size):
    name = f"train_{devices}"
    result = milpath(
        "train",
        *WORDS,
        *DDP,
        f"trainer.devices={devices}",
        f"data.batch_size={batch_size}",
        f"run_name={name}",
        cwd=workplace,
    )
    for checkpoint in ("last.ckpt", "best.ckpt"):
        one, many = (load_network(workplace / "runs" / run / "checkpoints" / checkpoint) for run in ("one", name))
        torch.testing.assert_close(many.state_dict(), one.state_dict(), atol=1e-5, rtol=1e-5)
    one_metrics, one_predictions = results(workplace, "one")
    many_metrics, many_predictions = results(workplace, name)
    for split, values in one_metrics.items():
        assert many_metrics[split] == pytest.approx(values, abs=1e-5)
    assert many_predictions["id"].tolist() == one_predictions["id"].tolist()
    one_log, many_log = (pd.read_csv(workplace / f"runs/{run}/logs/csv/metrics.csv") for run in ("one", name))
    pd.testing.assert_frame_equal(many_log, one_log, atol=1e-5, rtol=0)
    # Every value that is logged is that of all processes already.
    assert "sync_dist" not in result.stderr


@pytest.mark.parametrize("devices", [2, 3])
def test_evaluation_counts_every_bag_once_and_gives_equal_numbers(workplace, devices):
    checkpoint = workplace / "runs/one/checkpoints/best.ckpt"
    name = f"evaluate_{devices}"
    words = [f"checkpoint={checkpoint}", "splits=[train,val,test]", "report=false"]
    milpath("evaluate", *words, *DDP, f"trainer.devices={devices}", f"run_name={name}", cwd=workplace)
    one_metrics, one_predictions = results(workplace, "one")
    many_metrics, many_predictions = results(workplace, name)
    assert len(many_predictions) == 23
    assert many_predictions["id"].is_unique
    for split, values in one_metrics.items():
        assert many_metrics[split] == pytest.approx(values, abs=1e-6)
    attention = [
        np.concatenate(frame.pop("attention").map(json.loads)) for frame in (many_predictions, one_predictions)
    ]
    np.testing.assert_allclose(*attention, atol=1e-6)
    pd.testing.assert_frame_equal(many_predictions, one_predictions, atol=1e-6, rtol=0)


def test_torchrun_trains_too(workplace):
    command = [
        sys.executable,
        "-m",
        "torch.distributed.run",
        "--standalone",
        "--nproc-per-node=2",
        "-m",
        "milpath.train",
    ]
    words = [*WORDS, *DDP, "trainer.devices=2", "data.batch_size=3", "run_name=torchrun"]
    subprocess.run([*command, *words], cwd=workplace, check=True, capture_output=True)
    one, many = (load_network(workplace / f"runs/{run}/checkpoints/last.ckpt") for run in ("one", "torchrun"))
    torch.testing.assert_close(many.state_dict(), one.state_dict(), atol=1e-5, rtol=1e-5)


def test_parameters_that_bags_of_some_labels_alone_train_keep_nobody_waiting(workplace):
    # One bag a process: in most steps one of CLAM's instance classifiers gets no gradient on some process.
    words = [*WORDS, *DDP, "trainer.devices=2", "data.batch_size=1", "trainer.max_epochs=1", "run_name=clam"]
    milpath("train", *words, "model=clam_sb", "auxiliary_loss=clam_clustering", cwd=workplace)


def test_a_process_that_is_killed_ends_the_job_and_leaves_a_whole_checkpoint(workplace):
    words = [*WORDS, *DDP, "trainer.devices=2", "data.batch_size=3", "run_name=killed", "trainer.max_epochs=100000"]
    command = [sys.executable, "-m", "milpath.train", *words]
    job = subprocess.Popen(command, cwd=workplace, stdout=subprocess.DEVNULL, stderr=subprocess.PIPE, text=True)
    last = workplace / "runs/killed/checkpoints/last.ckpt"
    try:
        deadline = time.monotonic() + 120
        while not last.exists() and time.monotonic() < deadline:
            time.sleep(0.1)
        (child,) = Path(f"/proc/{job.pid}/task/{job.pid}/children").read_text().split()
        os.kill(int(child), signal.SIGKILL)
        _, errors = job.communicate(timeout=60)
    finally:
        job.kill()
    assert job.returncode not in (0, -signal.SIGKILL)
    assert "by peer" in errors, errors[-2000:]  # "Connection closed" or "reset"
    assert load_network(last)


def test_a_process_that_raises_ends_the_job_with_its_own_error_and_leaves_a_whole_checkpoint(workplace):
    start = time.monotonic()
    # A rate this high makes a loss that is no number on every process.
    words = [*WORDS, *DDP, "trainer.devices=2", "data.batch_size=3", "run_name=fails", "optimizer.lr=1e30"]
    result = milpath("train", *words, cwd=workplace, check=False)
    assert result.returncode != 0
    assert "train/loss is" in result.stderr
    assert time.monotonic() - start < 60 + 30  # with the start of the processes
    last = workplace / "runs/fails/checkpoints/last.ckpt"
    assert not last.exists() or load_network(last)
