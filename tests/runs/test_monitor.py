import re

import pytest

from tests.commands import SMALL_RUN, here

# 16 bags train, four in a batch.
WORDS = [*SMALL_RUN, "data.num_folds=6", "callbacks=default"]


@pytest.mark.command
@pytest.mark.parametrize(
    ("words", "steps"),
    [
        (["trainer.max_steps=3"], 4),
        (["trainer.max_steps=1", "trainer.accumulate_grad_batches=2"], 2),
        (["trainer.max_steps=1", "trainer.limit_train_batches=3"], 3),
        (["trainer.max_steps=1", "trainer.limit_train_batches=0.5"], 2),
    ],
)
def test_a_training_that_ends_before_its_first_validation_is_refused_with_the_steps_of_an_epoch(
    words, steps, tmp_path, capsys
):
    assert here("milpath.train", *WORDS, *words, "run_name=short", cwd=tmp_path) == 1
    line = capsys.readouterr().err.splitlines()[-1]
    assert re.search(r"monitors val/auroc, and trainer\.max_steps=\d ends before the first validation", line)
    assert f"an epoch has {steps} steps: give trainer.max_steps={steps} or more, or callbacks=no_validation" in line
    assert not (tmp_path / "runs/short").exists()


@pytest.mark.command
def test_early_stopping_without_validation_is_refused(tmp_path, capsys):
    assert here("milpath.train", *WORDS, "trainer.limit_val_batches=0", cwd=tmp_path) == 1
    assert "trainer.limit_val_batches=0 validates nothing; leave it out, or" in capsys.readouterr().err


@pytest.mark.command
@pytest.mark.parametrize("words", [["trainer.max_steps=4"], ["trainer.max_steps=3", "callbacks=no_validation"]])
def test_the_ways_out_train(words, tmp_path):
    assert here("milpath.train", *WORDS, *words, "run_name=long", cwd=tmp_path) == 0
    assert (tmp_path / "runs/long/metrics.json").is_file()


@pytest.mark.command
@pytest.mark.parametrize(
    ("word", "message"),
    [
        (
            "trainer.limit_train_batches=0.1",
            "is less than one of the 4 batches of an epoch; give 0.25 or more, or a whole",
        ),
        ("trainer.limit_val_batches=0.2", "is less than one of the 1 batches of an epoch; give 1 or more, or a whole"),
    ],
)
def test_a_fraction_of_less_than_a_batch_is_refused_before_the_training(word, message, tmp_path, capsys):
    assert here("milpath.train", *WORDS, word, "run_name=short", cwd=tmp_path) == 1
    assert f"ValueError: {word} {message} number of batches" in capsys.readouterr().err.splitlines()[-1]
    assert not (tmp_path / "runs/short").exists()


@pytest.mark.command
def test_a_monitor_without_its_split_is_refused_with_the_nearest_first(tmp_path, capsys):
    assert here("milpath.train", *WORDS, "monitor=auroc", "run_name=short", cwd=tmp_path) == 1
    said = capsys.readouterr().err.splitlines()[-1]
    assert "monitors auroc, which no training logs; give monitor= one of val/auroc, " in said


@pytest.mark.command
def test_what_lightning_itself_logs_may_be_monitored_and_fractions_count_batches_of_evaluation(tmp_path):
    last = "+callbacks.newest={_target_: lightning.pytorch.callbacks.ModelCheckpoint, monitor: step, mode: max, save_top_k: 2}"
    words = [
        last,
        "data.batch_size=16",
        "data.eval_batch_size=1",
        "trainer.limit_val_batches=0.5",
        "trainer.max_epochs=1",
    ]
    assert here("milpath.train", *WORDS, *words, "run_name=short", cwd=tmp_path) == 0
