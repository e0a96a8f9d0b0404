"""A command that is started warm is what a new interpreter runs, and the order of the test files names files."""

import os
import signal
import subprocess
import sys
from pathlib import Path

import pytest

from tests.conftest import LONG_FILES, REPOSITORY
from tests.warm_start import WarmCommand, completed


@pytest.mark.parametrize("words", [["slides=empty", "output=out"], ["--cfg", "job"], ["slide=1"]])
def test_it_answers_as_a_new_interpreter_does(words, tmp_path):
    (tmp_path / "empty").mkdir()
    cold = subprocess.run([sys.executable, "-m", "milpath.tile", *words], cwd=tmp_path, capture_output=True, text=True)
    warm = completed("tile", *words, cwd=tmp_path, environment=os.environ)
    assert (warm.returncode, warm.stdout, warm.stderr) == (cold.returncode, cold.stdout, cold.stderr)
    assert warm.args == cold.args


def test_it_has_its_own_folder_session_and_end(tmp_path):
    process = WarmCommand("app", ["checkpoint=none.pt"], tmp_path, new_session=True)
    assert os.getsid(process.pid) == process.pid
    assert Path(f"/proc/{process.pid}/cwd").readlink() == tmp_path
    process.kill()
    assert process.wait(60) == process.poll() == -signal.SIGKILL


def test_the_longest_files_are_there():
    assert [name for name in LONG_FILES if not (REPOSITORY / "tests" / name).is_file()] == []
