import os
import signal
import threading
import time
from pathlib import Path

import numpy as np
import pytest

from milpath.slides.tiling_options import TileOptions
from milpath.tiling.slide_job import OutputError, SlideJob, SlideRecord
from milpath.tiling.worker_pool import Worker, cut_slides, kill_workers
from tests.pyramids import tissue, write_pyramid


@pytest.fixture
def make_job(tmp_path):
    options = TileOptions(tile_size=32, num_tiles=4)

    def make(name, picture=None):
        path = tmp_path / f"{name}.tiff"
        write_pyramid(path, tissue(100, 90) if picture is None else picture, factors=(2, 1))
        return SlideJob(name, str(path), str(tmp_path / "parts" / name), None, None, None, options)

    return make


def signal_while_at_work(monkeypatch, signals):
    """Send a worker a signal as soon as it holds a slide of some name."""
    original = Worker.give

    def give(self, job):
        if job.bag_id in signals:
            os.kill(self._process.pid, signal.SIGSTOP)
        original(self, job)
        if signals.get(job.bag_id, signal.SIGSTOP) != signal.SIGSTOP:
            os.kill(self._process.pid, signals[job.bag_id])
            os.kill(self._process.pid, signal.SIGCONT)

    monkeypatch.setattr(Worker, "give", give)


def test_workers_that_die_or_hang_are_named_by_their_slide_and_the_others_go_on(make_job, monkeypatch):
    names = ["a", "b", "hangs", "crashes", "is killed", "c", "d"]
    signal_while_at_work(monkeypatch, {"crashes": signal.SIGSEGV, "is killed": signal.SIGKILL, "hangs": signal.SIGSTOP})
    start = time.monotonic()
    answers = {answer.job.bag_id: answer for answer in cut_slides(map(make_job, names), 2, max_seconds=8)}
    assert set(answers) == set(names)
    assert [name for name in names if answers[name].error is None] == ["a", "b", "c", "d"]
    assert answers["crashes"].error == "reading it ended the process (SIGSEGV, Fatal Python error: Segmentation fault)"
    assert answers["is killed"].error == "reading it ended the process (SIGKILL)"
    assert answers["hangs"].error == "it took longer than 8 seconds"
    assert time.monotonic() - start < 120
    assert 10 << 20 < answers["d"].peak_memory < 300 << 20


def test_the_start_of_a_process_is_not_the_time_of_its_slide(make_job, tmp_path, monkeypatch):
    (tmp_path / "late").mkdir()
    (tmp_path / "late/sitecustomize.py").write_text("import time; time.sleep(7)")
    monkeypatch.setenv("PYTHONPATH", str(tmp_path / "late"))
    assert [answer.error for answer in cut_slides([make_job("a")], 1, max_seconds=6)] == [None]


def test_a_finished_slide_has_a_record_and_a_failed_one_leaves_nothing(make_job, tmp_path):
    blank = np.full((100, 90, 3), 255, np.uint8)
    answers = list(cut_slides([make_job("good"), make_job("white", blank)], 1))
    assert [answer.error for answer in answers] == [
        None,
        "white.tiff is blank: all its tiles have one colour (values from 255 to 255)",
    ]
    assert SlideRecord.read(tmp_path / "parts" / "good.zip").num_tiles == 4
    assert sorted(path.name for path in (tmp_path / "parts").iterdir()) == ["good.npy", "good.zip"]


def test_a_disk_that_takes_nothing_stops_the_run_and_blames_no_slide(make_job, tmp_path):
    (tmp_path / "parts").write_text("a file where the folder should be")
    with pytest.raises(OutputError, match="Not a directory|File exists"):
        list(cut_slides([make_job("a"), make_job("b")], 2))


def test_leaving_early_ends_the_workers(make_job):
    answers = cut_slides(map(make_job, "abcdef"), 2)
    next(answers)
    answers.close()
    assert not [process for process in Path("/proc").iterdir() if process.name.isdigit() and is_worker_of_mine(process)]


def test_a_process_that_ends_kills_its_workers_and_whoever_waits_for_them_goes_on(make_job, monkeypatch):
    signal_while_at_work(monkeypatch, {"hangs": signal.SIGSTOP})
    killer = threading.Timer(1.0, kill_workers)
    killer.start()
    (answer,) = cut_slides([make_job("hangs")], 1, max_seconds=300)
    killer.join()
    assert answer.error == "reading it ended the process (SIGKILL)"


def is_worker_of_mine(process):
    try:
        parent = (process / "stat").read_text().rsplit(")", 1)[1].split()[1]
        return parent == str(os.getpid()) and "slides.worker" in (process / "cmdline").read_text()
    except (FileNotFoundError, ProcessLookupError):
        return False
