"""Trials of a sweep in Weights & Biases, offline."""

import pytest

from tests.commands import here
from tests.runs.test_resume import FEATURES, write_features

SWEEP = [
    "-m", *[word for word in FEATURES if not word.startswith("logger")], "logger=[csv,wandb]", "logger.wandb.offline=true",
    "trainer.max_epochs=1", "run_name=w", "optimizer.lr=1e-3,1e-2",
]  # fmt: skip


@pytest.mark.slow
@pytest.mark.filterwarnings("ignore::DeprecationWarning")
def test_each_trial_of_a_sweep_is_a_run_of_its_own_and_the_same_command_again_is_one_line(tmp_path, capfd):
    wandb = pytest.importorskip("wandb")
    write_features(tmp_path / "in", [0, 1] * 12)
    assert here("milpath.train", *SWEEP, cwd=tmp_path) == 0
    assert wandb.run is None
    for job in (0, 1):
        runs = list((tmp_path / f"runs/w/{job}/wandb").glob("offline-run-*"))
        assert len(runs) == 1, job
        assert list(runs[0].glob("*.wandb")), job
    capfd.readouterr()
    assert here("milpath.train", *SWEEP, cwd=tmp_path) == 1
    error = capfd.readouterr().err
    assert "runs/w/1: FileExistsError: " in error
    assert "failed runs in this sweep: 2; first: " in error
    assert "Traceback" not in error
