"""One process at a time in a folder."""

import errno
import os
import signal
import subprocess
import sys
from pathlib import Path
from threading import Timer

import pytest
from filelock import FileLock

from milpath.records.folder_lock import HOLDER_FILE, LOCK_FILE, FolderLock, scratch_folder

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


def test_a_process_that_has_just_got_the_folder_is_named_once_it_has_written_its_name(tmp_path):
    with FileLock(tmp_path / LOCK_FILE):
        later = Timer(0.2, (tmp_path / HOLDER_FILE).write_text, ['{"pid": 12, "host": "node"}'])
        later.start()
        with pytest.raises(ValueError, match=r"another process \(pid 12 on node\)"):
            FolderLock(tmp_path).acquire()
        later.join()


def test_a_folder_that_becomes_free_meanwhile_is_taken(tmp_path):
    other = FileLock(tmp_path / LOCK_FILE, thread_local=False)
    other.acquire()
    later = Timer(0.2, other.release)
    later.start()
    with FolderLock(tmp_path) as lock:
        assert lock.holder()["pid"] == os.getpid()
    later.join()


@pytest.mark.parametrize("text", ["[" * 100_000, "[]", "{", "\xff"])
def test_a_name_of_a_holder_that_cannot_be_read_is_no_name(tmp_path, text):
    (tmp_path / ".lock.json").write_bytes(text.encode("latin-1"))
    assert FolderLock(tmp_path).holder() == {}
    with FolderLock(tmp_path) as lock:
        assert lock.holder()["pid"] == os.getpid()


SCRATCH = """
import sys, time
from milpath.records.folder_lock import scratch_folder
with scratch_folder("milpath-app-", sys.argv[1]) as folder:
    (folder / "slide.tiff").touch()
    print(folder, flush=True)
    time.sleep(60)
"""


def test_a_temporary_folder_of_a_killed_process_is_deleted_by_the_next_and_no_other(tmp_path):
    (tmp_path / "milpath-app-of-somebody").mkdir()
    processes = [
        subprocess.Popen([sys.executable, "-c", SCRATCH, str(tmp_path)], stdout=subprocess.PIPE, text=True)
        for _ in range(2)
    ]
    killed, alive = (Path(process.stdout.readline().strip()) for process in processes)
    processes[0].kill()
    processes[0].wait()
    try:
        with scratch_folder("milpath-app-", tmp_path):
            assert killed.exists()  # it may be one that another process is just making
        for folder in (killed, alive):
            os.utime(folder / LOCK_FILE, (0, 0))
        with scratch_folder("milpath-app-", tmp_path) as mine:
            assert sorted(tmp_path.iterdir()) == sorted([alive, mine, tmp_path / "milpath-app-of-somebody"])
            assert (alive / "slide.tiff").exists()
        assert not mine.exists()
    finally:
        processes[1].kill()
        for process in processes:
            process.wait()
            process.stdout.close()


@pytest.mark.parametrize("error", [NotImplementedError("no flock"), OSError(errno.ENOLCK, "no locks available")])
def test_on_a_disk_without_locks_no_folder_is_taken_for_abandoned(error, tmp_path, monkeypatch):
    def refuse(*_, **__):
        lock = next(tmp_path.glob("mine-*")) / LOCK_FILE
        lock.touch()  # as filelock leaves it
        raise error

    with monkeypatch.context() as patch:
        patch.setattr("milpath.records.folder_lock.FileLock.acquire", refuse)
        with scratch_folder("mine-", tmp_path) as folder:
            assert list(folder.iterdir()) == []
    assert list(tmp_path.iterdir()) == []
