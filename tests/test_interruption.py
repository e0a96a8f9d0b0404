"""Commands that are told to stop: a status that is no success, one line, no process left, and work that goes on."""

import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Sequence
from pathlib import Path

import pytest
import torch

from tests.commands import DDP, SMALL_RUN, here

LONG_RUN = [*SMALL_RUN, "trainer.max_epochs=100000", "callbacks.early_stopping=null"]


class Command:
    """A command in a process group of its own, so that what it leaves behind can be found."""

    def __init__(self, name: str, words: Sequence[str], cwd: Path) -> None:
        self.process = subprocess.Popen(
            [sys.executable, "-m", f"milpath.{name}", *words], cwd=cwd, stdout=subprocess.DEVNULL,
            stderr=subprocess.PIPE, text=True, start_new_session=True,
        )  # fmt: skip

    def wait_for(self, ready: Callable[[], bool]) -> None:
        deadline = time.monotonic() + 300
        while not ready():
            assert self.process.poll() is None, self.process.communicate()[1][-2000:]
            assert time.monotonic() < deadline
            time.sleep(0.01)

    def stop(self, number: int, *, group: bool = False) -> tuple[int, str]:
        """Send a signal to the command alone (`kill`) or to its group (Ctrl+C); returns status and stderr."""
        (os.killpg if group else os.kill)(self.process.pid, number)
        try:
            _, errors = self.process.communicate(timeout=60)
        finally:
            left = self.others()
            for pid in left:
                os.kill(pid, signal.SIGKILL)
            self.process.kill()
        assert left == [], "processes outlived the command"
        return self.process.returncode, errors

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


def last_of(folder: Path) -> Path:
    return folder / "checkpoints/last.ckpt"


@pytest.mark.parametrize(("number", "status"), [(signal.SIGTERM, 143), (signal.SIGINT, 130)])
def test_a_training_that_is_stopped_is_no_success_and_goes_on_where_it_was(tmp_path, number, status):
    job = Command("train", [*LONG_RUN, "run_name=a"], tmp_path)
    job.wait_for(last_of(tmp_path / "runs/a").exists)
    time.sleep(0.5)
    found, said = job.stop(number)
    assert found == status, said
    (line,) = said.splitlines()
    assert line.startswith("stopped by SIGTERM after epoch " if status == 143 else "stopped after epoch ")
    assert line.endswith("; go on with run_name=a resume_from=auto")
    assert not (tmp_path / "runs/a/metrics.json").exists()
    content = torch.load(last_of(tmp_path / "runs/a"), weights_only=True)
    epochs = content["epoch"] + 2
    words = [*LONG_RUN, f"trainer.max_epochs={epochs}"]
    assert here("milpath.train", *words, "run_name=a", "resume_from=auto", cwd=tmp_path) == 0
    assert here("milpath.train", *words, "run_name=whole", cwd=tmp_path) == 0
    for name in ("metrics.json", "predictions.csv"):
        assert (tmp_path / "runs/a" / name).read_bytes() == (tmp_path / "runs/whole" / name).read_bytes()


@pytest.mark.slow
@pytest.mark.parametrize(
    ("number", "status", "group"),
    [
        (signal.SIGTERM, 143, False),
        (signal.SIGTERM, 143, True),
        (signal.SIGINT, 130, True),
        (signal.SIGINT, 130, False),
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
