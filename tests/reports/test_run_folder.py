import json
import re
from dataclasses import replace

import numpy as np
import pytest

from milpath.records.prediction_table import Predictions
from milpath.reports.run_folder import groups_of, read_fold, read_run


@pytest.fixture
def run_dir(tmp_path):
    positive = np.linspace(0, 1, 12, dtype=np.float32)
    Predictions(
        bag_ids=[f"slide_{n}" for n in range(12)],
        splits=["train"] * 6 + ["val"] * 2 + ["test"] * 4,
        labels=np.arange(12) % 2,
        probabilities=np.stack([1 - positive, positive], axis=1),
        attention=[np.full(4, 0.25, np.float32)] * 12,
        class_names=["benign", "malignant"],
    ).write_csv(tmp_path / "predictions.csv")
    return tmp_path


def test_a_fold_is_its_test_split(run_dir):
    fold = read_fold(run_dir, "attention", 1, 2, "binary", groups={f"slide_{n}": n // 2 for n in range(12)})
    assert fold.bag_ids == ["slide_8", "slide_9", "slide_10", "slide_11"]
    assert fold.outcomes.labels.tolist() == [0, 1, 0, 1]
    assert fold.outcomes.groups.tolist() == ["4", "4", "5", "5"]
    assert fold.num_train == 6
    assert fold.failure is None


def test_a_fold_that_failed_says_why(tmp_path):
    assert read_fold(tmp_path, "attention", 0, 0, "binary").failure == "no predictions.csv"
    (tmp_path / "failure.txt").write_text("ValueError: loss is NaN\nat step 3\n")
    assert read_fold(tmp_path, "attention", 0, 0, "binary").failure == "ValueError: loss is NaN at step 3"


def test_a_run_without_logs_or_record_can_be_read(run_dir):
    run = read_run(run_dir)
    assert run.splits == ["test", "val", "train"]
    assert (run.metrics, run.history, run.config) == ({}, None, "")
    (run_dir / "metrics.json").write_text(json.dumps({"test": {"auroc": 1.0}}))
    assert read_run(run_dir).metrics == {"test": {"auroc": 1.0}}


def test_a_folder_that_is_no_run_is_refused(tmp_path):
    with pytest.raises(FileNotFoundError, match=r"has no predictions\.csv; give the folder of a finished run"):
        read_run(tmp_path)


def test_a_bag_without_group_is_named():
    with pytest.raises(ValueError, match=r"1 of 2 bags have no group \(first: 'b'\)"):
        groups_of(["a", "b"], {"a": "patient_1"})


def test_a_fold_is_judged_by_the_calls_of_its_run_and_not_by_a_threshold_of_one_half(run_dir):
    run = read_run(run_dir).predictions
    replace(run, predicted=(run.probabilities[:, 1] > 0.95).astype(int)).write_csv(run_dir / "predictions.csv")
    assert read_fold(run_dir, "attention", 0, 0, "binary").outcomes.predicted.tolist() == [0, 0, 0, 1]


@pytest.mark.parametrize("name", ["metrics.json", "provenance.json", "faithfulness.json"])
@pytest.mark.parametrize(
    ("content", "message"),
    [
        ('{"a": ' + "[" * 100_000, "is not JSON, or is damaged (nested too deeply)"),
        ('{"a": ' + "[" * 40 + "]" * 40 + "}", "is nested more than 16 levels deep"),
        ("[1]", "must be a mapping, not [1]"),
        ("{", "is not JSON, or is damaged"),
        (" " * (65 << 20) + "{}", "has 68 MB; it may have 67 MB"),
    ],
    ids=["deep", "nested", "list", "damaged", "large"],
)
def test_a_record_that_no_run_wrote_is_refused(run_dir, name, content, message):
    (run_dir / name).write_text(content)
    with pytest.raises(ValueError, match=re.escape(f"{run_dir / name} {message}")):
        read_run(run_dir)


def test_a_record_that_is_no_text_is_named(run_dir):
    (run_dir / "metrics.json").write_bytes(b"{\xff}")
    with pytest.raises(ValueError, match=re.escape(f"{run_dir / 'metrics.json'} is not JSON, or is damaged ('utf-8'")):
        read_run(run_dir)


def test_a_target_may_have_any_name_in_the_metrics(run_dir):
    (run_dir / "metrics.json").write_text('{"test": {"_grade/auroc": 1.0}}')
    assert read_run(run_dir).metrics == {"test": {"_grade/auroc": 1.0}}


@pytest.mark.parametrize("content", ['a,b\n1,2,3\n"', " \n", "epoch\n\xff\n"])
def test_a_log_that_is_no_table_is_named(run_dir, content):
    log = run_dir / "logs" / "csv" / "metrics.csv"
    log.parent.mkdir(parents=True)
    log.write_bytes(content.encode("latin-1"))
    with pytest.raises(ValueError, match=re.escape(f"{log} is not a CSV table (")):
        read_run(run_dir)
