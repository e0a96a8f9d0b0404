import re

import pytest

from milpath.drawing import progress
from milpath.drawing.progress import ProgressLines, track


class Clock:
    """Three seconds a look."""

    def __init__(self):
        self.now = 0.0

    def monotonic(self):
        self.now += 3.0
        return self.now


def test_a_log_has_a_line_at_most_every_ten_seconds_with_the_time_left(monkeypatch, capsys):
    monkeypatch.setattr(progress, "time", Clock())
    assert list(track(range(40), "features, bags", 40)) == list(range(40))
    lines = capsys.readouterr().err.splitlines()
    assert 8 <= len(lines) <= 12  # 120 seconds
    for line in lines:
        assert re.fullmatch(r"features, bags: \d+ of 40 in (\d+ s|\d min), about \d+ (s|min) left", line)


def test_short_work_writes_nothing(capsys):
    assert list(track("abc", "slides", 3)) == ["a", "b", "c"]
    assert capsys.readouterr() == ("", "")


def test_without_a_total_a_line_has_no_time_left(monkeypatch, capsys):
    monkeypatch.setattr(progress, "time", Clock())
    lines = ProgressLines("bags")
    for number in range(1, 5):
        lines.show(number, None)
    assert capsys.readouterr().err == "bags: 4 in 12 s\n"


def test_a_terminal_has_a_bar(monkeypatch, capsys):
    monkeypatch.setenv("FORCE_COLOR", "1")
    monkeypatch.setenv("TERM", "xterm")
    assert len(list(track("abc", "slides", 3))) == 3
    assert "100%" in capsys.readouterr().err


def test_an_error_of_the_work_is_raised():
    def items():
        yield 1
        raise ValueError("broken")

    with pytest.raises(ValueError, match="broken"):
        list(track(items(), "slides", 2))
