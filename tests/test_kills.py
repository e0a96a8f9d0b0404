"""SIGKILL at random moments loses nothing: the same command goes on, and ends with the bytes of a run that was left alone."""

from collections.abc import Sequence
from pathlib import Path

import pytest

from scripts import kills
from tests.warm_start import WarmCommand

pytestmark = pytest.mark.command


@pytest.mark.slow
@pytest.mark.parametrize(("command", "temporary"), [("train", "/dev/shm"), ("tile", None), ("predict", None)])
def test_a_command_that_is_killed_goes_on_to_the_same_bytes(command, temporary, tmp_path, monkeypatch):
    if temporary is not None and Path(temporary).is_dir():
        monkeypatch.setenv("TMPDIR", temporary)  # another file system than that of the results
    hits, rounds, different = kills.kill_and_compare(command, tmp_path, kills=3, seed=5, starter=start)
    assert hits == 3
    assert rounds >= 1
    assert different == []


def start(words: Sequence[str], cwd: Path) -> WarmCommand:
    with (cwd / "said.txt").open("wb") as said:
        return WarmCommand(words[0], words[1:], cwd, stdout=said, stderr=said)


def test_a_difference_is_found(tmp_path):
    for cwd in ("whole", "killed"):
        (tmp_path / cwd / "out").mkdir(parents=True)
        (tmp_path / cwd / "out/config.yaml").write_text(f"dir: {tmp_path / cwd}\n")
        (tmp_path / cwd / "out/predictions.csv").write_text("id\n")
        (tmp_path / cwd / "out/train.log").write_text(cwd)
    whole, killed = (kills.contents(tmp_path / cwd, "out") for cwd in ("whole", "killed"))
    assert kills.differences(whole, killed) == set()
    (tmp_path / "killed/out/predictions.csv").write_text("id\na\n")
    (tmp_path / "killed/out/.x.partial").touch()
    (tmp_path / "killed/out/train.log").unlink()
    found = kills.differences(whole, kills.contents(tmp_path / "killed", "out"))
    assert found == {"predictions.csv", ".x.partial", "train.log"}
