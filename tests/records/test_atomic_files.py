import errno
import resource
import signal
import subprocess
import sys

import pytest

from milpath.records.atomic_files import atomic_path, drop_open_line, remove_partial_files, write_json, write_text


def test_a_file_that_fails_half_way_leaves_the_old_one_and_nothing_else(tmp_path):
    path = tmp_path / "a.txt"
    write_text(path, "old")
    with pytest.raises(RuntimeError), atomic_path(path) as temporary:
        temporary.write_text("half")
        raise RuntimeError
    assert path.read_text() == "old"
    assert [found.name for found in tmp_path.iterdir()] == ["a.txt"]


def test_a_kill_while_writing_leaves_the_old_file(tmp_path):
    path = tmp_path / "a.txt"
    write_text(path, "old")
    code = (
        "import os, signal\nfrom milpath.records.atomic_files import atomic_path\n"
        f"with atomic_path({str(path)!r}) as temporary:\n"
        "    temporary.write_text('half')\n    os.kill(os.getpid(), signal.SIGKILL)\n"
    )
    assert subprocess.run([sys.executable, "-c", code], check=False).returncode == -9
    assert path.read_text() == "old"


def test_the_temporary_file_lies_beside_its_target(tmp_path):
    with atomic_path(tmp_path / "a.txt") as temporary:
        assert temporary.parent == tmp_path
        temporary.write_text("")


def test_a_folder_that_is_missing_is_named(tmp_path):
    with pytest.raises(FileNotFoundError, match="create it first"):
        write_text(tmp_path / "none" / "a.txt", "")


def test_json_has_no_nan(tmp_path):
    with pytest.raises(ValueError, match="not JSON compliant"):
        write_json(tmp_path / "a.json", {"auroc": float("nan")})
    assert not list(tmp_path.iterdir())


def test_a_full_disk_names_the_file_and_leaves_the_old_one(tmp_path):
    path = tmp_path / "a.txt"
    write_text(path, "old")
    # A process that may not write long files sees what it sees on a full disk: a write fails half way.
    before = resource.getrlimit(resource.RLIMIT_FSIZE)
    handler = signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
    try:
        resource.setrlimit(resource.RLIMIT_FSIZE, (1000, before[1]))
        with pytest.raises(OSError, match=r"a\.txt") as found:
            write_text(path, "new" * 1000)
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, before)
        signal.signal(signal.SIGXFSZ, handler)
    assert found.value.errno == errno.EFBIG
    assert found.value.filename == str(path)
    assert path.read_text() == "old"
    assert [found.name for found in tmp_path.iterdir()] == ["a.txt"]


def test_what_killed_processes_left_is_deleted_and_nothing_else(tmp_path):
    with atomic_path(tmp_path / "last.ckpt") as temporary:
        temporary.write_text("")
        name = temporary.name
    (tmp_path / name).write_text("half")
    for other in ("last.ckpt", ".predictions.csv.partial", "notes.partial"):
        (tmp_path / other).write_text("")
    remove_partial_files(tmp_path)
    assert {path.name for path in tmp_path.iterdir()} == {"last.ckpt", ".predictions.csv.partial", "notes.partial"}
    remove_partial_files(tmp_path / "none")


@pytest.mark.parametrize(
    ("before", "after"), [("a,b\n1,2\n", "a,b\n1,2\n"), ("a,b\n1,2\n3", "a,b\n1,2\n"), ("a,b", ""), ("", "")]
)
def test_a_last_line_without_its_end_is_cut_off(tmp_path, before, after):
    (tmp_path / "a.csv").write_text(before)
    drop_open_line(tmp_path / "a.csv")
    assert (tmp_path / "a.csv").read_text() == after
