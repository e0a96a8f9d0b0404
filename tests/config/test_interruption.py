"""Commands that are told to stop: a status that is no success, one line, no process left, and work that goes on."""

import os
import signal
import sys
import time
from collections.abc import Callable, Sequence
from pathlib import Path

import numpy as np
import pytest
import torch

from milpath.config.interruption import interruptible
from milpath.data.store.bag_store_writer import BagStoreWriter
from milpath.models import AttentionMIL, save_network
from tests.commands import DDP, SMALL_RUN, here
from tests.pyramids import tissue, write_pyramid
from tests.warm_start import WarmCommand

LONG_RUN = [*SMALL_RUN, "trainer.max_epochs=100000", "callbacks.early_stopping=null"]
# Long enough to be stopped in the middle, short enough to be trained to its end.
FINITE_RUN = [*SMALL_RUN, "trainer.max_epochs=25", "callbacks.early_stopping=null"]


class Command:
    """A command in a process group of its own, so that what it leaves behind can be found."""

    def __init__(self, name: str, words: Sequence[str], cwd: Path) -> None:
        self.process = WarmCommand(name, words, cwd, new_session=True)

    def wait_for(self, ready: Callable[[], bool]) -> None:
        deadline = time.monotonic() + 300
        while not ready():
            if self.process.poll() is not None or time.monotonic() > deadline:
                self.end()
                pytest.fail(f"it did not come to work: {self.process.communicate(60)[1][-2000:]}")
            time.sleep(0.01)

    def stop(self, number: int, *, group: bool = False) -> tuple[int, str]:
        """Send a signal to the command alone (`kill`) or to its group (Ctrl+C); returns status and stderr."""
        (os.killpg if group else os.kill)(self.process.pid, number)
        try:
            _, errors = self.process.communicate(timeout=180)
        finally:
            left = self.others()
            deadline = (
                time.monotonic() + 60
            )  # a process that sees its parent gone takes some seconds to end on a busy machine
            while left and time.monotonic() < deadline:
                time.sleep(0.05)
                left = self.others()
            self.end()
        assert left == [], "processes outlived the command"
        return self.process.returncode, errors

    def end(self) -> None:
        for pid in self.others():
            os.kill(pid, signal.SIGKILL)
        self.process.kill()

    def others(self) -> list[int]:
        """Return the processes that the command started and that are still there."""
        found = []
        for entry in Path("/proc").iterdir():
            try:
                state, _, _, session = (entry / "stat").read_text().rpartition(")")[2].split()[:4]
            except OSError:
                continue
            if session == str(self.process.pid) and entry.name != session and state != "Z":
                found.append(int(entry.name))
        return found


def lines_of(said: str) -> list[str]:
    """Return the lines of a stopped command.

    A signal that comes while a file is being opened leaves it to the interpreter, which warns of it at its end, with the line
    of code.
    """
    lines: list[str] = []
    warned = False
    for line in said.splitlines():
        warned = "ResourceWarning" in line or (warned and line.startswith("  "))
        lines += [] if warned else [line]
    return lines


def last_of(folder: Path) -> Path:
    return folder / "checkpoints/last.ckpt"


@pytest.fixture(scope="module")
def whole(tmp_path_factory) -> Path:
    """The run folder of a training that nobody stopped."""
    folder = tmp_path_factory.mktemp("whole")
    assert here("milpath.train", *FINITE_RUN, "run_name=whole", cwd=folder) == 0
    return folder / "runs/whole"


@pytest.mark.parametrize(("number", "status"), [(signal.SIGTERM, 143), (signal.SIGINT, 130)])
def test_a_training_that_is_stopped_is_no_success_and_goes_on_where_it_was(tmp_path, number, status, whole):
    job = Command("train", [*FINITE_RUN, "run_name=a"], tmp_path)
    job.wait_for(last_of(tmp_path / "runs/a").exists)
    time.sleep(0.2)
    found, said = job.stop(number)
    assert found == status, said
    (line,) = lines_of(said)
    assert line.startswith("stopped by SIGTERM after epoch " if status == 143 else "stopped after epoch ")
    assert line.endswith("; continue with run_name=a resume_from=auto")
    assert not (tmp_path / "runs/a/metrics.json").exists()
    assert here("milpath.train", *FINITE_RUN, "run_name=a", "resume_from=auto", cwd=tmp_path) == 0
    for name in ("metrics.json", "predictions.csv"):
        assert (tmp_path / "runs/a" / name).read_bytes() == (whole / name).read_bytes()


@pytest.mark.slow
@pytest.mark.parametrize(
    ("number", "status", "group"),
    [
        (signal.SIGTERM, 143, False),
        (signal.SIGTERM, 143, True),
        (signal.SIGINT, 130, True),
    ],
)
def test_a_distributed_training_that_is_stopped_takes_all_its_processes_along(tmp_path, number, status, group):
    job = Command("train", [*LONG_RUN, *DDP, "trainer.devices=2", "run_name=a"], tmp_path)
    job.wait_for(last_of(tmp_path / "runs/a").exists)
    found, said = job.stop(number, group=group)
    assert found == status, said
    (line,) = [line for line in said.splitlines() if line.startswith("stopped")]
    assert line.endswith("resume_from=auto")
    assert "Traceback" not in said
    assert torch.load(last_of(tmp_path / "runs/a"), weights_only=True)["global_step"] > 0


def test_a_tiling_that_is_stopped_takes_its_workers_along_and_goes_on(tmp_path):
    for seed in range(60):
        write_pyramid(tmp_path / f"in/{seed}.tiff", tissue(400, 400, seed))
    words = ["slides=in", "output=out", "tile_size=32", "num_workers=2"]
    for number, status in ((signal.SIGTERM, 143), (signal.SIGINT, 130)):
        job = Command("tile", words, tmp_path)
        done = len(list((tmp_path / "out/parts").glob("*.zip")))
        job.wait_for(lambda done=done: len(list((tmp_path / "out/parts").glob("*.zip"))) > done)
        found, said = job.stop(number)
        by = " by SIGTERM" if number == signal.SIGTERM else ""
        assert lines_of(said)[-1] == f"stopped{by}; finished slides are kept; run the same command to continue"
        assert found == status
    assert here("milpath.tile", *words, cwd=tmp_path) == 0
    assert (tmp_path / "out/store.json").exists()


@pytest.mark.parametrize(("number", "status"), [(signal.SIGTERM, 143), (signal.SIGINT, 130)])
def test_a_prediction_that_is_stopped_goes_on(tmp_path, number, status):
    with BagStoreWriter(tmp_path / "store") as writer:
        for index in range(1000):
            writer.add(f"bag {index}", np.full((4, 16, 16, 3), index % 250, np.uint8), labels={"label": 0})
    network = AttentionMIL(encoder={"name": "tile_cnn", "tile_size": 16, "embedding_dim": 8})
    save_network(network, tmp_path / "network.pt", class_names=("benign", "malignant"), tiling={"tile_size": 16})
    job = Command("predict", ["checkpoint=network.pt", "slides=store", "output=out", "device=cpu"], tmp_path)
    rows = tmp_path / "out/.predictions.csv.partial"
    job.wait_for(lambda: rows.exists() and rows.stat().st_size > 100)
    found, said = job.stop(number)
    assert found == status, said
    line = lines_of(said)[-1]
    assert line.startswith("stopped")
    assert line.endswith("; finished slides are kept; run the same command to continue")
    assert rows.exists()
    assert not (tmp_path / "out/predictions.csv").exists()


@pytest.mark.slow
@pytest.mark.parametrize(("number", "status", "jobs"), [(signal.SIGINT, 130, 2), (signal.SIGTERM, 143, 1)])
def test_a_table_that_is_stopped_takes_its_trainings_along(tmp_path, number, status, jobs):
    words = [word for word in SMALL_RUN if not word.startswith(("callbacks", "report", "logger"))]
    words += ["trainer.max_epochs=100000", "trainer.min_epochs=100000"]  # nothing stops it early
    words += [
        "data.num_slides=60",  # both classes in every split
        "data.val_fraction=0.3",
        "output=out",
        "folds=2",
        "repeats=1",
        "methods=[instance_mean,attention]",
        f"jobs={jobs}",
    ]
    job = Command("table", words, tmp_path)
    job.wait_for(lambda: len(list(tmp_path.rglob("last.ckpt"))) >= jobs)
    found, said = job.stop(number, group=True)
    assert found == status, said
    assert "finished trainings are kept; run the same command to continue" in said
    assert "Traceback" not in said


@pytest.mark.parametrize(
    ("error", "status"), [(KeyboardInterrupt(), 130), (SystemExit(143), 143), (SystemExit(1), 1), (SystemExit(), None)]
)
def test_only_a_signal_is_told_and_changes_the_status(error, status, capsys):
    handlers = signal.getsignal(signal.SIGTERM), signal.getsignal(signal.SIGINT)
    with pytest.raises(SystemExit) as stop, interruptible("type it again"):
        error.add_note("after epoch 3")
        raise error
    assert stop.value.code == status
    said = capsys.readouterr().err
    lines = {130: "stopped after epoch 3; type it again\n", 143: "stopped by SIGTERM after epoch 3; type it again\n"}
    assert said == lines.get(status, "")
    assert (signal.getsignal(signal.SIGTERM), signal.getsignal(signal.SIGINT)) == handlers


def test_an_exit_that_lightning_makes_of_an_interrupt_is_an_interrupt(capsys):
    with pytest.raises(SystemExit) as stop, interruptible():
        try:
            raise KeyboardInterrupt
        except KeyboardInterrupt:
            sys.exit(1)
    assert stop.value.code == 130
    assert capsys.readouterr().err == "stopped\n"
