"""The command `milpath compare`, in this process."""

import sys

import pytest

from milpath import compare
from tests.compared_runs import write_class_run


def typed(monkeypatch, folder, *words):
    monkeypatch.chdir(folder)
    monkeypatch.setattr(sys, "argv", ["milpath", *words])
    try:
        compare.main()
    except SystemExit as stop:
        return int(stop.code or 0)
    return 0


@pytest.fixture
def folder(tmp_path):
    for seed, name in enumerate(("first", "second", "lr=0.1, (a) [b]")):
        write_class_run(tmp_path / "runs" / name, seed=seed)
    return tmp_path


def test_folders_need_no_key_and_may_have_any_name(monkeypatch, capsys, folder):
    words = ("runs/first", "output=out", "runs/lr=0.1, (a) [b]", "num_resamples=20")
    assert typed(monkeypatch, folder, *words) == 0
    lines = capsys.readouterr().out.splitlines()
    assert lines[0] == "60 test bags; differences from first"
    assert lines[1].startswith("AUROC: first 0.")
    assert lines[-1] == "report: out/report.html"
    assert {path.name for path in (folder / "out").iterdir()} == {
        "report.html", "metrics.csv", "disagreements.csv", "comparison.json",
    }  # fmt: skip


def test_a_comma_in_a_folder_of_a_list_is_quoted(monkeypatch, capsys, folder):
    words = ('runs=[runs/first,"runs/lr=0.1, (a) [b]"]', "num_resamples=20")
    assert typed(monkeypatch, folder, *words) == 0
    assert capsys.readouterr().out.splitlines()[0] == "60 test bags; differences from first"


def test_other_runs_are_not_replaced_but_the_same_are(monkeypatch, capsys, folder):
    assert typed(monkeypatch, folder, "runs/first", "runs/second", "num_resamples=10") == 0
    assert typed(monkeypatch, folder, "runs/first", "runs/second", "num_resamples=20") == 0
    capsys.readouterr()
    assert typed(monkeypatch, folder, "runs/second", "runs/first", "num_resamples=10") == 1
    assert "holds the comparison of other runs; give another output, or overwrite=true" in capsys.readouterr().err
    assert typed(monkeypatch, folder, "runs/second", "runs/first", "num_resamples=10", "overwrite=true") == 0


def test_a_run_folder_is_never_taken_for_the_output(monkeypatch, capsys, folder):
    (folder / "runs" / "first" / "report.html").write_text("mine")
    assert typed(monkeypatch, folder, "runs/first", "runs/second", "output=runs/first") == 1
    assert "holds the report of something else" in capsys.readouterr().err
    assert (folder / "runs" / "first" / "report.html").read_text() == "mine"


@pytest.mark.parametrize(
    ("words", "expected"),
    [
        (["runs/first"], "a comparison needs at least 2 run folders, got 1"),
        ([], "runs must be given"),
        (["runs/first", "runs/none"], "runs/none has no predictions.csv"),
        (["runs/first", "runs/second", "different_bags=some"], "different_bags=some must be error or shared"),
        (["runs/first", "runs/second", "splits=val"], "splits"),
        (
            ["runs=[runs/first,runs/lr=0.1, (a) [b]]"],
            "runs is a list, which commas divide, but runs/lr=0.1, (a) [b] has one in its name; quote it: "
            """'runs=[runs/first,"runs/lr=0.1, (a) [b]"]'""",
        ),
    ],
)
def test_a_mistake_is_one_line(monkeypatch, capsys, folder, words, expected):
    assert typed(monkeypatch, folder, *words) == 1
    said = capsys.readouterr().err
    assert expected in said
    assert said.count("\n") == 1
