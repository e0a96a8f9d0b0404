import re

from milpath.drawing import progress as progress_lines
from milpath.tiling import slide_progress
from milpath.tiling.slide_progress import SlideProgress


class Clock:
    """Three seconds a look."""

    def __init__(self):
        self.now = 0.0

    def monotonic(self):
        self.now += 3.0
        return self.now


def test_a_log_has_a_line_now_and_then_with_speed_failures_and_time_left(monkeypatch, capsys):
    for module in (slide_progress, progress_lines):
        monkeypatch.setattr(module, "time", Clock())
    with SlideProgress(1000, "slides cut") as progress:
        for number in range(20):
            progress.advance(failed=number == 3, peak_memory=number)
    lines = capsys.readouterr().err.splitlines()
    assert 2 <= len(lines) < 20
    assert re.fullmatch(
        r"slides cut: \d+ of 1,000 in \d+ s, 0\.[1-9] slides/s, 1 failed, about \d+ (min|h \d+ min) left", lines[-1]
    )
    assert (progress.num_done, progress.num_failed, progress.peak_memory) == (20, 1, 19)


def test_a_terminal_has_a_bar_with_speed_failures_and_time_left(monkeypatch, capsys):
    monkeypatch.setenv("FORCE_COLOR", "1")
    monkeypatch.setenv("TERM", "xterm")
    monkeypatch.setenv("COLUMNS", "160")
    with SlideProgress(3, "slides encoded") as progress:
        for number in range(3):
            progress.advance(failed=number == 0, peak_memory=0)
    said = capsys.readouterr().err
    assert "3/3" in said
    assert "slides/s, 1 failed" in said
    assert said.count("0:00:0") >= 2, "time gone and time left"
