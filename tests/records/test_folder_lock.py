"""One process at a time in a folder."""

import os
import signal
import subprocess
import sys

import pytest

from milpath.records.folder_lock import FolderLock

HOLD = """
import sys, time
from milpath.records.folder_lock import FolderLock
lock = FolderLock(sys.argv[1])
lock.acquire()
print("held", flush=True)
time.sleep(60)
"""


@pytest.fixture
def other_process(tmp_path):
    process = subprocess.Popen([sys.executable, "-c", HOLD, str(tmp_path)], stdout=subprocess.PIPE, text=True)
    assert process.stdout.readline() == "held\n"
    yield process
    process.kill()
    process.wait()
    process.stdout.close()


def test_a_second_process_is_told_who_holds_the_folder(other_process, tmp_path):
    with pytest.raises(
        ValueError, match=rf"another process \(pid {other_process.pid} on .+\) is working on .*; wait for it"
    ):
        FolderLock(tmp_path).acquire()


def test_a_killed_process_holds_nothing_whatever_files_it_leaves(other_process, tmp_path):
    other_process.send_signal(signal.SIGKILL)
    other_process.wait()
    assert FolderLock(tmp_path).holder()["pid"] == other_process.pid
    with FolderLock(tmp_path) as lock:
        assert lock.holder()["pid"] == os.getpid()


def test_a_folder_is_free_after_its_block_even_after_an_error(tmp_path):
    with pytest.raises(RuntimeError), FolderLock(tmp_path):
        raise RuntimeError
    with FolderLock(tmp_path), pytest.raises(ValueError, match="another process"):
        FolderLock(tmp_path).acquire()
