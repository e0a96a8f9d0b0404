"""The report as PDF: by a browser that may be missing, may fail, or may never end."""

import os
import re
import stat
import time
from pathlib import Path

import pytest

from milpath.reports.page import write_report
from milpath.reports.paper import printed_page
from milpath.reports.paper.printed_page import find_browser, print_page
from tests.waiting import is_alive, wait_until


def browser_that(monkeypatch, tmp_path, script):
    """Put a browser with some behaviour in the place of the machine's."""
    path = tmp_path / "chromium"
    path.write_text(f"#!/bin/sh\n{script}\n")
    path.chmod(path.stat().st_mode | stat.S_IEXEC)
    monkeypatch.setattr(printed_page, "find_browser", lambda: str(path))


@pytest.fixture
def page(tmp_path):
    path = tmp_path / "run" / "report.html"
    path.parent.mkdir()
    path.write_text("<p>report</p>")
    return path


def test_a_machine_without_a_browser_says_so_in_one_line(monkeypatch, page):
    monkeypatch.setenv("PATH", "")
    assert find_browser() is None
    assert print_page(page) == (
        f"no report.pdf beside {page}: no Chromium or Chrome on this machine; open the page and print it in a browser"
    )
    assert [path.name for path in page.parent.iterdir()] == ["report.html"]


@pytest.mark.parametrize(
    ("script", "words"),
    [
        ("echo first >&2; printf 'cannot\\033[2J start' >&2; exit 3", r"chromium failed with status 3 \(cannot\\x1b\[2J start\)"),
        ("exit 0", "chromium wrote none"),
        ("for w; do case $w in --print-to-pdf=*) echo half > ${w#*=};; esac; done", "chromium wrote none"),
    ],
    ids=["fails", "writes nothing", "writes no PDF"],
)  # fmt: skip
def test_a_browser_that_fails_leaves_no_file(monkeypatch, tmp_path, page, script, words):
    browser_that(monkeypatch, tmp_path, script)
    assert re.search(words, print_page(page))
    assert not page.with_suffix(".pdf").exists()


def test_a_browser_that_never_ends_is_ended_with_its_children(monkeypatch, tmp_path, page):
    browser_that(monkeypatch, tmp_path, f"sleep 300 & echo $! > {tmp_path}/child; wait")
    started = time.monotonic()
    assert "chromium did not end within 2 s" in print_page(page, timeout_seconds=2)
    assert time.monotonic() - started < 60
    child = int((tmp_path / "child").read_text())
    wait_until(lambda: not is_alive(child))


def test_the_browser_gets_only_the_page_a_profile_of_its_own_and_no_network(monkeypatch, tmp_path, page):
    browser_that(
        monkeypatch, tmp_path,
        f'printf "%s\\n" "$@" > {tmp_path}/words; '
        "for w; do case $w in --print-to-pdf=*) printf '%%PDF-1.4 x %%%%EOF' > ${w#*=};; esac; done",
    )  # fmt: skip
    assert print_page(page) == f"report as PDF: {page.with_suffix('.pdf')}"
    assert page.with_suffix(".pdf").read_bytes() == b"%PDF-1.4 x %%EOF"
    words = (tmp_path / "words").read_text().splitlines()
    assert words[-1] == page.as_uri()
    assert "--host-resolver-rules=MAP * ~NOTFOUND" in words
    assert ("--no-sandbox" in words) == (os.geteuid() == 0)
    (profile,) = (word for word in words if word.startswith("--user-data-dir="))
    assert not Path(profile.partition("=")[2]).exists()


def test_a_page_that_is_not_there_is_an_error(tmp_path):
    with pytest.raises(FileNotFoundError, match="write the report first"):
        print_page(tmp_path / "report.html")


@pytest.mark.skipif(find_browser() is None, reason="no Chromium or Chrome on this machine")
@pytest.mark.command
def test_a_report_is_printed_with_its_figures(binary_run):
    page = write_report(binary_run.path, task="binary", num_resamples=10)
    line = print_page(page)
    assert line == f"report as PDF: {page.with_suffix('.pdf')}"
    content = page.with_suffix(".pdf").read_bytes()
    assert 2 <= len(re.findall(rb"/Type /Page\b(?!s)", content)) <= 8
    assert b"/FontFile" in content
