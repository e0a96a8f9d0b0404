"""Several processes end: together where all is well, soon and with a reason where one of them fails."""

import os
import signal
import time
from pathlib import Path

import pytest

from milpath.models import load_network
from tests.commands import DDP, DETERMINED_RUN, milpath
from tests.warm_start import WarmCommand

pytestmark = pytest.mark.slow


def test_parameters_that_bags_of_some_labels_alone_train_keep_nobody_waiting(tmp_path):
    # One bag a process: in most steps one of CLAM's instance classifiers gets no gradient on some process.
    words = [*DETERMINED_RUN, *DDP, "trainer.devices=2", "data.batch_size=1", "trainer.max_epochs=1", "run_name=clam"]
    milpath("train", *words, "model=clam_sb", "auxiliary_loss=clam_clustering", cwd=tmp_path)


def test_a_process_that_is_killed_ends_the_job_and_leaves_a_whole_checkpoint(tmp_path):
    words = [
        *DETERMINED_RUN,
        *DDP,
        "trainer.devices=2",
        "data.batch_size=3",
        "run_name=killed",
        "trainer.max_epochs=100000",
    ]
    job = WarmCommand("train", words, tmp_path)
    last = tmp_path / "runs/killed/checkpoints/last.ckpt"
    try:
        deadline = time.monotonic() + 300
        while not last.exists() and job.poll() is None and time.monotonic() < deadline:
            time.sleep(0.1)
        (child,) = Path(f"/proc/{job.pid}/task/{job.pid}/children").read_text().split()
        os.kill(int(child), signal.SIGKILL)
        _, errors = job.communicate(timeout=180)
    finally:
        job.kill()
    # It ends by the connection that is "closed by peer" or "reset by peer", or Lightning, which looks every five seconds, was
    # there before it had ended, and ends it.
    if job.returncode == -signal.SIGKILL:
        assert "terminated with code -9" in (tmp_path / "runs/killed/train.log").read_text()
    else:
        assert job.returncode != 0
        assert "by peer" in errors, errors[-2000:]
    assert load_network(last)


def test_a_process_that_raises_ends_the_job_with_its_own_error_and_leaves_a_whole_checkpoint(tmp_path):
    start = time.monotonic()
    # A rate this high makes a loss that is no number on every process.
    words = [*DETERMINED_RUN, *DDP, "trainer.devices=2", "data.batch_size=3", "run_name=fails", "optimizer.lr=1e30"]
    result = milpath("train", *words, cwd=tmp_path, check=False)
    assert result.returncode != 0
    assert "train/loss is" in result.stderr
    assert (
        time.monotonic() - start < 300
    )  # with the start of the processes; one that waits for the other does so for half an hour
    last = tmp_path / "runs/fails/checkpoints/last.ckpt"
    assert not last.exists() or load_network(last)
