"""Trials that others are ahead of are given up."""

import json
from pathlib import Path
from types import SimpleNamespace

import pytest
import torch

from milpath.training.callbacks.median_stopping import MedianStopping


def finished(trials_dir: Path, name: str, values: list[float], done: bool = True) -> None:
    (trials_dir / name).mkdir()
    (trials_dir / name / "curve.json").write_text(json.dumps({"best_values": values, "stopped_after": None}))
    if done:
        (trials_dir / name / "metrics.json").write_text("{}")


def run(trials_dir: Path, values: list[float], mode: str = "max", **options: int) -> int:
    """Return the epochs that a trial had."""
    (trials_dir / "own").mkdir(exist_ok=True)
    callback = MedianStopping("val/auroc", mode, str(trials_dir / "own"), str(trials_dir), **options)
    trainer = SimpleNamespace(sanity_checking=False, should_stop=False, is_global_zero=True, callback_metrics={})
    for epoch, value in enumerate(values, start=1):
        trainer.callback_metrics["val/auroc"] = torch.tensor(value)
        callback.on_validation_end(trainer, None)
        if trainer.should_stop:
            return epoch
    return len(values)


@pytest.fixture
def trials_dir(tmp_path) -> Path:
    for name, value in (("a", 0.6), ("b", 0.7), ("c", 0.8)):
        finished(tmp_path, name, [value - 0.1, value, value])
    return tmp_path


def test_a_trial_below_the_median_of_the_others_at_an_epoch_stops_there(trials_dir):
    assert run(trials_dir, [0.65, 0.69, 0.9], num_trials=3, num_epochs=1) == 2
    assert json.loads((trials_dir / "own/curve.json").read_text())["stopped_after"] == 2


def test_a_trial_at_the_median_or_above_goes_on(trials_dir):
    assert run(trials_dir, [0.65, 0.75, 0.1], num_trials=3, num_epochs=1) == 3  # its best so far counts
    assert json.loads((trials_dir / "own/curve.json").read_text())["stopped_after"] is None


def test_an_error_stops_a_trial_above_the_median(trials_dir):
    assert run(trials_dir, [0.55, 0.75, 0.1], mode="min", num_trials=3, num_epochs=1) == 3
    assert run(trials_dir, [0.65, 0.75, 0.1], mode="min", num_trials=3, num_epochs=1) == 1


@pytest.mark.parametrize("options", [{"num_trials": 4, "num_epochs": 1}, {"num_trials": 3, "num_epochs": 4}])
def test_no_trial_stops_before_there_is_enough_to_compare_with(trials_dir, options):
    assert run(trials_dir, [0.1, 0.1, 0.1], **options) == 3


def test_trials_that_are_not_finished_do_not_count(trials_dir):
    finished(trials_dir, "running", [0.9, 0.9, 0.9], done=False)
    assert run(trials_dir, [0.1, 0.1, 0.1], num_trials=4, num_epochs=1) == 3


def test_a_trial_that_goes_on_after_a_stop_remembers_its_best_value(trials_dir):
    (trials_dir / "own").mkdir()
    first = MedianStopping("val/auroc", "max", str(trials_dir / "own"), str(trials_dir))
    first.best_values = [0.65, 0.75]
    second = MedianStopping("val/auroc", "max", str(trials_dir / "own"), str(trials_dir))
    second.load_state_dict(first.state_dict())
    assert second.best_values == [0.65, 0.75]


def test_a_rule_without_trials_to_compare_with_is_refused():
    with pytest.raises(ValueError, match="num_trials of median stopping must be at least 1, got 0"):
        MedianStopping("val/auroc", "max", "own", "trials", num_trials=0)
