"""Trials of a search, read and ranked."""

import json
from pathlib import Path

import pytest

from milpath.search.trials import best_first, read_trials, validation_value, write_trials


def make_trial(
    folder: Path, lr: str, metrics: dict | None = None, failure: str | None = None, stopped: int | None = None
):
    folder.mkdir(parents=True)
    (folder / "trial.json").write_text(json.dumps({"parameters": {"optimizer.lr": lr}}))
    if metrics is not None:
        (folder / "metrics.json").write_text(json.dumps(metrics))
    if failure:
        (folder / "failure.txt").write_text(failure + "\n")
    if stopped:
        (folder / "curve.json").write_text(json.dumps({"best_values": [0.1] * stopped, "stopped_after": stopped}))


@pytest.mark.parametrize(("mode", "order"), [("max", [3, 2, 1, None]), ("min", [1, 2, 3, None])])
def test_the_best_comes_first_and_what_has_no_value_last(mode, order):
    assert best_first([2, None, 1, 3], lambda value: value, mode) == order


def test_equal_values_keep_their_order():
    assert best_first(["b", "a"], lambda _: 0.5, "max") == ["b", "a"]


def test_an_unknown_mode_is_refused():
    with pytest.raises(ValueError, match="monitor_mode must be one of max, min, got 'up'"):
        best_first([1], lambda value: value, "up")


@pytest.mark.parametrize(
    "metrics",
    [None, {}, {"val": {}}, {"val": {"auroc": None}}, {"val": 3}, {"test": {"auroc": 1.0}}],
)
def test_a_run_without_the_metric_on_its_validation_split_has_no_value(tmp_path, metrics):
    if metrics is not None:
        (tmp_path / "metrics.json").write_text(json.dumps(metrics))
    assert validation_value(tmp_path, "val/auroc") is None


def test_the_table_says_what_became_of_each_trial(tmp_path):
    make_trial(tmp_path / "trial_a", "0.1", {"val": {"auroc": 0.7}, "test": {"auroc": 0.99}}, stopped=6)
    make_trial(tmp_path / "trial_b", "0.2", {"val": {"auroc": 0.8}})
    make_trial(tmp_path / "trial_c", "0.3", {"val": {"auroc": 0.9}}, failure="ValueError: a | b")
    make_trial(tmp_path / "trial_d", "0.4")
    trials = read_trials(tmp_path, "val/auroc", "max")
    assert [trial.folder.name for trial in trials] == ["trial_b", "trial_a", "trial_c", "trial_d"]
    assert [trial.value for trial in trials] == [0.8, 0.7, None, None]
    assert [trial.state for trial in trials] == [
        "finished",
        "stopped after 6 epochs",
        "FAILED ValueError: a | b",
        "not finished",
    ]
    text = write_trials(tmp_path, trials, "val/auroc", "max")
    assert "| 1 | 0.8000 | 0.2 | trial_b | finished |" in text
    assert "FAILED ValueError: a \\| b" in text
    assert "0.99" not in text + (tmp_path / "trials.csv").read_text()


@pytest.mark.parametrize(
    ("name", "text"),
    [
        ("metrics.json", "[" * 100_000), ("metrics.json", "[]"), ("metrics.json", '{"val": {"auroc": NaN}}'), ("trial.json", "{}"), ("trial.json", '{"parameters": 3}'),
        ("curve.json", '{"stopped_after": "<b>"}'), ("curve.json", "\xff"),
    ],
)  # fmt: skip
def test_a_trial_that_no_search_wrote_is_refused_in_one_line(tmp_path, name, text):
    folder = tmp_path / "trial_a"
    folder.mkdir()
    (folder / "trial.json").write_text('{"parameters": {"optimizer.lr": 0.1}}')
    (folder / name).write_bytes(text.encode("latin-1"))
    with pytest.raises(ValueError, match="trial_a") as caught:
        read_trials(tmp_path, "val/auroc", "max")
    assert "\n" not in str(caught.value)
