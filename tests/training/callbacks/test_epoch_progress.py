"""What a training prints where there is no terminal."""

import re

import pytest

from tests.commands import SMALL_RUN, milpath

WORDS = [word for word in SMALL_RUN if word != "callbacks.progress=null"]


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    return tmp_path_factory.mktemp("log")


@pytest.mark.slow
def test_a_log_has_one_line_per_epoch_and_no_bar_or_advert(folder):
    result = milpath("train", *WORDS, "trainer.max_epochs=3", "run_name=a", cwd=folder)
    lines = result.stdout.splitlines()
    start = next(number for number, line in enumerate(lines) if line.startswith("epoch 1"))
    pattern = r"epoch {} of 3: train/loss \d\.\d{{4}}, val/auroc \d\.\d{{4}}, (under 1|\d+) s{}"
    left = r", at most \d+ s left"
    for number, rest in ((1, left), (2, left), (3, "")):
        assert re.fullmatch(pattern.format(number, rest), lines[start + number - 1]), lines
    # Before: the lines of the new bag store and of its check. After: the table of metrics.
    assert start == 2
    assert "SyntheticBags" in lines[0]
    assert " - data check: no two of 24 bags" in lines[1]
    # Its title, the path of the run, is wrapped at the width of the table.
    top = next(number for number, line in enumerate(lines) if line.startswith("┏"))
    assert "runs/a" in "".join(line.strip() for line in lines[start + 3 : top])
    assert "━" not in "".join(line for line in lines if not line.startswith(("┏", "┡")))
    assert not re.search(r"tip|litlogger|litmodels|seamless|upgrade", result.stdout + result.stderr, re.IGNORECASE)
    assert result.stderr == ""
    resumed = milpath("train", *WORDS, "trainer.max_epochs=4", "run_name=a", "resume_from=auto", cwd=folder).stdout
    assert [line[:12] for line in resumed.splitlines() if line.startswith("epoch")] == ["epoch 4 of 4"]
    checkpoint = "checkpoint=runs/a/checkpoints/best.ckpt"
    result = milpath("evaluate", checkpoint, "run_name=b", "trainer.accelerator=cpu", cwd=folder)
    assert "Predicting" not in result.stdout
    assert result.stderr == ""


def test_progress_is_a_bar_on_a_terminal_and_lines_in_a_log(monkeypatch):
    from lightning.pytorch.callbacks import RichProgressBar

    from milpath.training.callbacks.epoch_progress import EpochLines, epoch_progress

    assert isinstance(epoch_progress("val/auroc"), EpochLines)
    monkeypatch.setenv("FORCE_COLOR", "1")
    assert isinstance(epoch_progress("val/auroc"), RichProgressBar)


@pytest.mark.parametrize(
    ("words", "kinds"),
    [
        ([], ["EpochLines"]),
        (["callbacks.progress=null"], []),
        (["trainer.enable_progress_bar=false"], []),
        (["callbacks=none"], []),
    ],
)
def test_a_trainer_has_no_bar_that_was_not_asked_for(words, kinds, tmp_path):
    from lightning.pytorch.callbacks import ProgressBar

    from milpath.runs.build_trainer import build_trainer
    from milpath.search.composition import compose_training

    trainer = build_trainer(
        compose_training([*words, f"paths.runs_dir={tmp_path}", "trainer.accelerator=cpu", "logger=csv"])
    )
    assert [type(callback).__name__ for callback in trainer.callbacks if isinstance(callback, ProgressBar)] == kinds


def test_one_of_many_trainings_says_now_and_then_how_far_it_is(monkeypatch, capsys):
    from types import SimpleNamespace

    from milpath.drawing import progress
    from milpath.training.callbacks.epoch_progress import TrainingLines

    now = iter([0.0, 4.0, 12.0, 13.0, 25.0])
    monkeypatch.setattr(progress.time, "monotonic", lambda: next(now))
    lines = object.__new__(TrainingLines)
    lines.name = "attention, repeat 0, fold 1"
    trainer = SimpleNamespace(global_step=100, estimated_stepping_batches=300.0, is_global_zero=True)
    lines.on_train_start(trainer, None)  # resumed after a hundred steps
    for step in (110, 150, 160, 200):
        trainer.global_step = step
        lines.on_train_batch_end(trainer, None, None, None, 0)
    assert capsys.readouterr().err.splitlines() == [
        "attention, repeat 0, fold 1, steps: 50 of 200 in 12 s, about 36 s left",
        "attention, repeat 0, fold 1, steps: 100 of 200 in 25 s, about 25 s left",
    ]
