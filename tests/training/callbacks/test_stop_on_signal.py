"""The signal that a cluster requeues jobs with saves what was done, as SIGTERM does."""

import os
import signal
from pathlib import Path

import pytest
import torch
from lightning.pytorch import Callback

from milpath.models.weights_digest import digest_of
from tests.commands import SMALL_RUN, here

RUN = [*SMALL_RUN, "trainer.max_epochs=3", "callbacks.early_stopping=null"]
TASK = {"SLURM_JOB_ID": "4711", "SLURM_JOB_NAME": "milpath", "SLURM_NTASKS": "1", "SLURM_NTASKS_PER_NODE": "1"}
TASK |= dict.fromkeys(("SLURM_PROCID", "SLURM_LOCALID", "SLURM_NODEID"), "0") | {"SLURM_NNODES": "1"}


class SignalInTheMiddle(Callback):
    """Sends a signal to this process in a step that is not the last of its epoch."""

    def __init__(self, number=signal.SIGUSR1):
        self.number = number

    def on_train_batch_start(self, trainer, pl_module, batch, batch_idx):
        if trainer.global_step == 5 and not Path("signalled").exists():
            Path("signalled").touch()
            os.kill(os.getpid(), self.number)


@pytest.fixture
def scontrol(tmp_path, monkeypatch):
    """A SLURM task, and a `scontrol` that writes down what it is told."""
    tool = tmp_path / "bin" / "scontrol"
    tool.parent.mkdir()
    tool.write_text(f'#!/bin/sh\necho "$@" >> {tmp_path}/told\n')
    tool.chmod(0o755)
    monkeypatch.setenv("PATH", f"{tool.parent}:{os.environ['PATH']}")
    for name, value in TASK.items():
        monkeypatch.setenv(name, value)
    return tmp_path / "told"


def test_a_job_that_its_cluster_requeues_goes_on_to_the_same_results(tmp_path, scontrol, capfd):
    words = [*RUN, f"+callbacks.signal._target_={__name__}.SignalInTheMiddle"]
    assert here("milpath.train", *words, "run_name=requeued", cwd=tmp_path) == 143
    assert scontrol.read_text() == "requeue 4711\n"
    said = capfd.readouterr().err
    assert "stopped by SIGTERM after epoch 1, step 6; continue with run_name=requeued resume_from=auto" in said
    run_dir = tmp_path / "runs/requeued"
    assert torch.load(run_dir / "checkpoints/last.ckpt", weights_only=True)["global_step"] == 6
    assert not list(run_dir.rglob("hpc_ckpt*"))  # which Lightning would prefer from then on to every later checkpoint
    for name, run in (("requeued", words), ("whole", RUN)):
        assert here("milpath.train", *run, f"run_name={name}", "resume_from=auto", cwd=tmp_path) == 0
    for name in ("metrics.json", "predictions.csv"):
        assert (run_dir / name).read_bytes() == (tmp_path / "runs/whole" / name).read_bytes()
    assert scontrol.read_text() == "requeue 4711\n"


def test_a_run_that_is_stopped_before_a_validation_within_an_epoch_does_not_leave_it_out(tmp_path):
    run = [*RUN, "+trainer.val_check_interval=0.5"]
    words = [
        *run,
        f"+callbacks.signal._target_={__name__}.SignalInTheMiddle",
        f"+callbacks.signal.number={signal.SIGTERM}",
    ]
    assert here("milpath.train", *words, "run_name=stopped", cwd=tmp_path) == 143
    content = torch.load(tmp_path / "runs/stopped/checkpoints/last.ckpt", weights_only=True)
    assert content["global_step"] == 7  # validation, which follows step 6, came first
    for name, each in (("stopped", words), ("whole", run)):
        assert here("milpath.train", *each, f"run_name={name}", "resume_from=auto", cwd=tmp_path) == 0
    stopped, whole = (
        torch.load(tmp_path / f"runs/{name}/checkpoints/last.ckpt", weights_only=True) for name in ("stopped", "whole")
    )
    assert digest_of(stopped["state_dict"]) == digest_of(whole["state_dict"])
    seen = [content["callbacks"]["CollapseWarning"] for content in (stopped, whole)]
    assert len(seen[1]["entropies"]) == 6
    assert seen[0] == seen[1]
