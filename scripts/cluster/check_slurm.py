"""scripts/train_slurm.sh on a real SLURM of two nodes: preempted, out of time, cancelled. Started by check_clusters.sh."""

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
    wait_until(lambda: ended(slurm, number), 400, f"the job of {name} ends")
    job = slurm.job(number)
    assert (job["JobState"], job["Restarts"]) == ("COMPLETED", str(restarts)), (folder / f"{name}.log").read_text()[
        -3000:
    ]


@pytest.fixture(scope="module")
def uninterrupted(slurm, folder):
    number = submit(slurm, folder, "whole")
    require_completed(slurm, folder, number, "whole", restarts=0)
    return folder / "runs" / "whole"


def train_for_two_epochs(slurm: Slurm, folder: Path, name: str, *words: str, options: tuple[str, ...] = ()) -> str:
    """Submit the script and wait until the training is in its middle; returns the number of the job."""
    number = submit(slurm, folder, name, *(words or SLOW), options=options)
    wait_until(lambda: epochs_done(folder / "runs" / name) >= 2 or ended(slurm, number), 300, "two epochs")
    assert not ended(slurm, number), (folder / f"{name}.log").read_text()[-3000:]
    return number


def test_a_preempted_job_goes_on_when_the_urgent_one_is_done(slurm, folder, uninterrupted):
    number = train_for_two_epochs(slurm, folder, "preempted")
    slurm.command("srun", "--partition=urgent", "--nodes=2", "--gpus-per-node=1", "--cpus-per-task=1", "sleep", "1")
    require_completed(slurm, folder, number, "preempted", restarts=1)
    require_equal_runs(folder / "runs" / "preempted", uninterrupted)


def test_a_job_at_its_time_limit_goes_on_in_a_further_one(slurm, folder, uninterrupted):
    # SLURM counts minutes and looks every half of one: the limit is set when the training is in its middle.
    options = ("--signal=TERM@60",)
    number = train_for_two_epochs(slurm, folder, "limited", *SLOW[:1], "+callbacks.slow.seconds=5", options=options)
    hours, minutes, _ = map(int, slurm.job(number)["RunTime"].split(":"))
    slurm.command("scontrol", "update", f"JobId={number}", f"TimeLimit={60 * hours + minutes + 2}")
    wait_until(lambda: slurm.job(number)["Restarts"] == "1", 300, "the job is requeued at its limit")
    slurm.command("scontrol", "update", f"JobId={number}", "TimeLimit=60")
    require_completed(slurm, folder, number, "limited", restarts=1)
    require_equal_runs(folder / "runs" / "limited", uninterrupted)


@pytest.mark.parametrize("signal", ["USR1", "TERM"])
def test_a_signal_to_the_tasks_is_a_preemption(slurm, folder, uninterrupted, signal):
    name = f"signal_{signal}"
    number = train_for_two_epochs(slurm, folder, name)
    slurm.command("scancel", f"--signal={signal}", number)
    require_completed(slurm, folder, number, name, restarts=1)
    require_equal_runs(folder / "runs" / name, uninterrupted)


def test_a_job_that_its_user_cancels_does_not_come_back(slurm, folder):
    number = train_for_two_epochs(slurm, folder, "cancelled")
    slurm.command("scancel", number)
    wait_until(lambda: ended(slurm, number), 120, "the job is cancelled")
    job = slurm.job(number)
    assert (job["JobState"], job["Restarts"]) == ("CANCELLED", "0")
    assert (folder / "runs/cancelled/checkpoints/last.ckpt").is_file()


@pytest.mark.parametrize("rank", [0, 1])
def test_a_task_that_fails_ends_the_job(slurm, folder, rank):
    # The other task is ended by SIGTERM, with the status of one that was preempted.
    words = ["+callbacks.fails._target_=slow_steps.FailsOnRank", f"+callbacks.fails.rank={rank}"]
    number = submit(slurm, folder, f"fails_{rank}", *words)
    wait_until(lambda: ended(slurm, number), 120, "the job fails")
    job = slurm.job(number)
    assert (job["JobState"], job["Restarts"]) == ("FAILED", "0")
