"""Searches over hyperparameters: a grid and Optuna under Hydra's multirun."""

import contextlib
import importlib
import json
import re
import shlex
import subprocess
import sys
from pathlib import Path

import optuna
import pandas as pd
import pytest
from omegaconf import OmegaConf

from milpath.records.folder_lock import FolderLock
from tests.commands import SMALL_RUN

WORDS = [word for word in SMALL_RUN if not word.startswith(("callbacks", "report"))] + ["trainer.max_epochs=2"]
GRID = ["hparams_search=attention_grid", *WORDS, "model.gated=true", "optimizer.lr=1e-3,1e30,1e-4"]
OPTUNA = ["hparams_search=attention_optuna", *WORDS, "trainer.max_epochs=1", "optimizer.lr=choice(1e-3,1e30,1e-4)"]

GOES_ON = pytest.mark.filterwarnings("ignore:(Experiment logs|Checkpoint) directory")  # where a trial goes on


def train(*words: str, cwd: Path) -> int:
    """Run `python -m milpath.train` in this process; returns the exit status."""
    with pytest.MonkeyPatch.context() as patch:
        patch.chdir(cwd)
        patch.setattr(sys, "argv", ["milpath.train", *words])
        try:
            importlib.import_module("milpath.train").main()
        except SystemExit as stop:
            return int(stop.code or 0)
    return 0


def times(folder: Path) -> dict[Path, int]:
    return {path: path.stat().st_mtime_ns for path in folder.glob("trial_*/metrics.json")}


@pytest.fixture(scope="module")
def workplace(tmp_path_factory) -> Path:
    folder = tmp_path_factory.mktemp("search")
    with (folder / "stderr.txt").open("w") as file, contextlib.redirect_stderr(file):
        assert train(*GRID, cwd=folder) == 0
    return folder


@pytest.fixture(scope="module")
def grid(workplace) -> Path:
    return workplace / "runs/attention_grid"


def test_a_search_says_how_far_it_is_and_a_failed_trial_is_one_line(workplace):
    said = (workplace / "stderr.txt").read_text()
    lines = re.findall(
        r"^trial (\d) of 3 \(trial_\w{10}\): (failed|val/auroc \d\.\d{4}); \d+ s(, about \d+ s left)?$", said, re.M
    )
    assert [number for number, _, _ in lines] == ["1", "2", "3"]
    assert [bool(left) for *_, left in lines] == [True, True, False]
    assert sum(result == "failed" for _, result, _ in lines) == 1
    assert "Error executing job" not in said
    assert "Traceback" not in said


def test_every_combination_is_a_trial_ranked_by_the_validation_split_and_a_failed_one_is_named(grid):
    table = pd.read_csv(grid / "trials.csv")
    assert set(table["optimizer.lr"]) == {1e-3, 1e-4, 1e30}
    assert table["val/auroc"][:2].is_monotonic_decreasing
    for _, row in table[:2].iterrows():
        metrics = json.loads((grid / row["folder"] / "metrics.json").read_text())
        assert row["val/auroc"] == metrics["val"]["auroc"]
    failed = table.iloc[2]
    assert failed["optimizer.lr"] == 1e30
    assert pd.isna(failed["val/auroc"])
    assert "FloatingPointError: train/loss is" in failed["state"]
    assert "FAILED FloatingPointError" in (grid / "trials.md").read_text()


def test_no_trial_sees_the_test_split(grid):
    folders = [path.parent for path in grid.glob("trial_*/metrics.json")]
    assert len(folders) == 2
    for folder in folders:
        assert set(json.loads((folder / "metrics.json").read_text())) == {"train", "val"}
        assert set(pd.read_csv(folder / "predictions.csv")["split"]) == {"train", "val"}
    assert "test/" not in (grid / "trials.csv").read_text()


def test_the_command_in_best_yaml_gives_the_best_trial_again_and_tests_it(grid, workplace):
    best = pd.read_csv(grid / "trials.csv").iloc[0]
    command = shlex.split((grid / "best.yaml").read_text().splitlines()[0].removeprefix("# "))
    assert command[:3] == ["python", "-m", "milpath.train"]
    assert train(*command[3:], "run_name=again", "callbacks.progress=null", "report=false", cwd=workplace) == 0
    metrics = json.loads((workplace / "runs/again/metrics.json").read_text())
    assert metrics["val"]["auroc"] == best["val/auroc"]
    assert "test" in metrics
    config = OmegaConf.load(workplace / "runs/again/config.yaml")
    assert (config.model.gated, config.optimizer.lr) == (True, best["optimizer.lr"])


@GOES_ON
def test_the_same_command_goes_on_and_trains_no_finished_trial_again(grid, workplace):
    before = times(grid)
    stopped = min(before)
    metrics = stopped.read_text()
    stopped.unlink()  # as if it had been killed before its end
    more = [*GRID[:-1], "optimizer.lr=1e-3,1e30,1e-4,5e-4"]
    assert train(*more, cwd=workplace) == 0
    after = times(grid)
    assert len(after) == 3
    assert [path for path in before if path != stopped and after[path] != before[path]] == []
    assert stopped.read_text() == metrics
    assert len(pd.read_csv(grid / "trials.csv")) == 4


def test_a_search_round_the_best_gives_a_configuration_that_stands_alone(grid, workplace, capfd):
    start = ["--config-dir", "runs/attention_grid", "--config-name", "best", "hparams_search=attention_grid"]
    words = ["optimizer=adam,adamw", "optimizer.lr=2e-3", "model.gated=true", "run_name=second"]
    words += ["~callbacks.learning_rate"]
    assert train(*start, *words, "trainer.max_epochs=1", cwd=workplace) == 0
    command = shlex.split((workplace / "runs/second/best.yaml").read_text().splitlines()[0].removeprefix("# "))
    (grid / "best.yaml").rename(grid / "moved.yaml")
    capfd.readouterr()
    assert train(*command[3:], "--cfg", "job", cwd=workplace) == 0
    config = OmegaConf.create(capfd.readouterr().out)
    (grid / "moved.yaml").rename(grid / "best.yaml")
    assert config.optimizer["_target_"] in ("torch.optim.Adam", "torch.optim.AdamW")
    assert (config.optimizer.lr, config.model.gated, config.trainer.max_epochs) == (2e-3, True, 1)
    assert "learning_rate" not in config.callbacks


REFUSED = {
    "another search in the same folder": (["data.batch_size=8"], "data.batch_size was 4"),
    "another parameter": (["seed=0,1"], "seed was not searched"),
    "a key that does not exist": (["optimizer.lrr=1,2", "run_name=new"], "optimizer.lrr"),
    "a metric of the test split": (["monitor=test/auroc", "run_name=new"], "give one of val/auroc"),
    "a metric nobody computes": (["monitor=val/loss", "run_name=new"], "give one of val/auroc"),
    "no validation split": (["data.val_fraction=0", "run_name=new"], "give data.val_fraction"),
    "several processes": (["trainer.devices=2", "run_name=new"], "each process would relaunch the sweep"),
    "nothing to search": (["optimizer.lr=1e-3", "run_name=new"], "no parameter with more than one value"),
    "data that are not there": (["data=musk1", "data.path=nowhere", "run_name=new"], "nowhere"),
}


@pytest.mark.parametrize("name", REFUSED)
def test_a_search_that_cannot_be_is_refused_before_it_trains(name, grid, workplace, run_here):
    words, expected = REFUSED[name]
    given = [word for word in GRID if name != "data that are not there" or not word.startswith("data")]
    status, error = run_here("milpath.train", *given, *words, cwd=workplace)
    assert status == 1
    assert expected in error
    assert "Traceback" not in error
    assert not (workplace / "runs/new/search.json").exists()


def test_a_search_that_another_process_works_on_is_left_alone(grid, workplace, run_here):
    with FolderLock(grid):
        status, error = run_here("milpath.train", *GRID, cwd=workplace)
    assert status == 1
    assert f") is working on {Path('runs/attention_grid')}" in error


@pytest.fixture(scope="module")
def study(tmp_path_factory) -> Path:
    folder = tmp_path_factory.mktemp("optuna")
    assert train(*OPTUNA, "hydra.sweeper.n_trials=4", cwd=folder) == 0
    return folder / "runs/attention_optuna"


def test_optuna_hears_of_every_trial_and_a_failed_one_has_no_value(study):
    trials = optuna.load_study(study_name=None, storage=f"sqlite:///{study}/study.db").trials
    assert len(trials) == 4
    for trial in trials:
        failed = float(trial.params["optimizer.lr"]) == 1e30
        assert (trial.state.name, trial.value is None) == (("FAIL", True) if failed else ("COMPLETE", False))
    table = pd.read_csv(study / "trials.csv")
    assert {trial.value for trial in trials} - {None} == set(table["val/auroc"].dropna())
    assert {trial.state.name for trial in trials} == {"FAIL", "COMPLETE"}


def test_each_trial_of_optuna_leaves_the_curve_that_later_ones_are_compared_with(study):
    table = pd.read_csv(study / "trials.csv").dropna(subset="val/auroc")
    for _, row in table.iterrows():
        curve = json.loads((study / row["folder"] / "curve.json").read_text())
        assert curve["best_values"] == [pytest.approx(row["val/auroc"])]
        assert curve["stopped_after"] is None


@GOES_ON
def test_a_search_that_was_stopped_has_the_trials_of_the_uninterrupted_one(study, tmp_path):
    assert train(*OPTUNA, "hydra.sweeper.n_trials=2", cwd=tmp_path) == 0
    resumed = tmp_path / "runs/attention_optuna"
    before = times(resumed)
    assert train(*OPTUNA, "hydra.sweeper.n_trials=4", cwd=tmp_path) == 0
    assert (resumed / "trials.csv").read_text().splitlines() == (study / "trials.csv").read_text().splitlines()
    assert before.items() <= times(resumed).items()


def test_the_lowest_value_is_best_where_the_metric_is_an_error(tmp_path):
    words = ["optimizer.lr=1e-3", "monitor=val/brier", "monitor_mode=min", "hydra.sweeper.n_trials=2"]
    assert train(*OPTUNA, *words, cwd=tmp_path) == 0
    folder = tmp_path / "runs/attention_optuna"
    values = pd.read_csv(folder / "trials.csv")["val/brier"]
    assert values.is_monotonic_increasing
    best = OmegaConf.load(folder / "optimization_results.yaml")
    assert best.best_value == values[0]


def test_a_search_without_one_good_trial_ends_with_one_line(tmp_path, run_here):
    words = ["optimizer.lr=1e30", "hydra.sweeper.n_trials=1"]
    status, error = run_here("milpath.train", *OPTUNA, *words, cwd=tmp_path)
    assert status == 1
    assert "none of the 1 trials succeeded; first: FloatingPointError" in error
    assert "Traceback" not in error
    assert not (tmp_path / "runs/attention_optuna/best.yaml").exists()


def test_without_the_extra_one_line_says_what_to_install(tmp_path):
    program = "import sys; sys.modules['hydra_plugins'] = None; import milpath.train; milpath.train.main()"
    command = [sys.executable, "-c", program, "hparams_search=attention_optuna", *WORDS]
    result = subprocess.run(command, cwd=tmp_path, capture_output=True, text=True)
    assert result.returncode == 1
    assert 'pip install "milpath[sweep]"' in result.stderr
    assert len(result.stderr.strip().splitlines()) == 1, result.stderr
