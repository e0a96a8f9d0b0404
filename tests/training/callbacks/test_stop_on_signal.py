"""The signal that a cluster requeues jobs with saves what was done, as SIGTERM does."""

import os
import signal
from pathlib import Path

import pytest
import torch
from lightning.pytorch import Callback

from tests.commands import SMALL_RUN, here

RUN = [*SMALL_RUN, "trainer.max_epochs=3", "callbacks.early_stopping=null"]
TASK = {"SLURM_JOB_ID": "4711", "SLURM_JOB_NAME": "milpath", "SLURM_NTASKS": "1", "SLURM_NTASKS_PER_NODE": "1"}
TASK |= dict.fromkeys(("SLURM_PROCID", "SLURM_LOCALID", "SLURM_NODEID"), "0") | {"SLURM_NNODES": "1"}


class SignalInTheMiddle(Callback):
    """Sends a signal to this process after a step that is not the last of its epoch."""

    def on_train_batch_start(self, trainer, pl_module, batch, batch_idx):
        if trainer.global_step == 5 and not Path("signalled").exists():
            Path("signalled").touch()
            os.kill(os.getpid(), signal.SIGUSR1)


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
