"""scripts/train_slurm.sh on a real SLURM of two nodes: preempted, out of time, cancelled. Started by check_clusters.sh."""

import os
import subprocess
import sys
from pathlib import Path

import pytest
from slurm_cluster import Slurm, slurm_cluster
from small_training import SLOW, SMALL, epochs_done, require_equal_runs
from two_hosts import wait_until

HERE = Path(__file__).resolve().parent
SCRIPT = HERE.parent / "train_slurm.sh"
NODES = ("--nodes=2", "--ntasks-per-node=1", "--gpus-per-node=1", "--cpus-per-task=1")


@pytest.fixture(scope="module")
def slurm(tmp_path_factory):
    with slurm_cluster(tmp_path_factory.mktemp("slurm")) as cluster:
        yield cluster


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    return tmp_path_factory.mktemp("work")


def submit(slurm: Slurm, folder: Path, name: str, *words: str, options: tuple[str, ...] = ()) -> str:
    """Submit the script; returns the number of the job."""
    return slurm.command(
        "sbatch", "--parsable", *NODES, f"--chdir={folder}", f"--output={folder}/{name}.log", *options,
        str(SCRIPT), *SMALL, *words,
        RUN_NAME=name, PYTHON=sys.executable, PYTHONPATH=f"{HERE.parents[1]}:{HERE}",
    )  # fmt: skip


def ended(slurm: Slurm, number: str) -> bool:
    return slurm.job(number)["JobState"] in ("COMPLETED", "FAILED", "CANCELLED", "TIMEOUT", "NODE_FAIL", "PREEMPTED")


def require_completed(slurm: Slurm, folder: Path, number: str, name: str, restarts: int) -> None:
    wait_until(lambda: ended(slurm, number), 240, f"the job of {name} ends")
    job = slurm.job(number)
    assert (job["JobState"], job["Restarts"]) == ("COMPLETED", str(restarts)), (folder / f"{name}.log").read_text()[-3000:]


@pytest.fixture(scope="module")
def uninterrupted(slurm, folder):
    number = submit(slurm, folder, "whole")
    require_completed(slurm, folder, number, "whole", restarts=0)
    return folder / "runs" / "whole"


def train_until(slurm, folder, name, *, epochs=2, options=()):
    number = submit(slurm, folder, name, *SLOW, options=options)
    wait_until(lambda: epochs_done(folder / "runs" / name) >= epochs or ended(slurm, number), 120, "two epochs")
    assert not ended(slurm, number), (folder / f"{name}.log").read_text()[-3000:]
    return number


def test_a_preempted_job_goes_on_when_the_urgent_one_is_done(slurm, folder, uninterrupted):
    number = train_until(slurm, folder, "preempted")
    slurm.command("srun", "--partition=urgent", "--nodes=2", "--gpus-per-node=1", "--cpus-per-task=1", "sleep", "1")
    require_completed(slurm, folder, number, "preempted", restarts=1)
    require_equal_runs(folder / "runs" / "preempted", uninterrupted)


def test_a_job_at_its_time_limit_goes_on_in_a_further_one(slurm, folder, uninterrupted):
    number = train_until(slurm, folder, "out_of_time", options=("--time=1", "--signal=USR1@20"))
    require_completed(slurm, folder, number, "out_of_time", restarts=1)
    require_equal_runs(folder / "runs" / "out_of_time", uninterrupted)


@pytest.mark.parametrize("signal", ["USR1", "TERM"])
def test_a_signal_to_the_tasks_is_a_preemption(slurm, folder, uninterrupted, signal):
    name = f"signal_{signal}"
    number = train_until(slurm, folder, name)
    slurm.command("scancel", f"--signal={signal}", number)
    require_completed(slurm, folder, number, name, restarts=1)
    require_equal_runs(folder / "runs" / name, uninterrupted)


def test_a_job_that_its_user_cancels_does_not_come_back(slurm, folder):
    number = train_until(slurm, folder, "cancelled")
    slurm.command("scancel", number)
    wait_until(lambda: ended(slurm, number), 120, "the job is cancelled")
    job = slurm.job(number)
    assert (job["JobState"], job["Restarts"]) == ("CANCELLED", "0")
    assert (folder / "runs/cancelled/checkpoints/last.ckpt").is_file()


def test_a_mistake_fails_the_job_at_once(slurm, folder):
    number = submit(slurm, folder, "mistake", "data.num_slides=-1")
    wait_until(lambda: ended(slurm, number), 120, "the job fails")
    job = slurm.job(number)
    assert (job["JobState"], job["Restarts"]) == ("FAILED", "0")
