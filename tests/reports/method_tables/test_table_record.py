import json
import os

import pytest

from milpath.records.digests import sha256_of_splits, sha256_of_values
from milpath.reports.method_tables.table_record import RecordedRun, record_of


def training(folder, seed, splits, finished=True, **provenance):
    """Write what a training leaves and the record reads."""
    folder.mkdir(parents=True)
    (folder / "config.yaml").write_text(f"data:\n  seed: 77\nseed: {seed}\n")
    (folder / "splits.csv").write_text(
        "id,split,label\n" + "".join(f"{bag},{split},0\n" for bag, split in splits.items())
    )
    record = {
        "command": ["milpath", "train"],
        "started": "2026-11-27T01:00:00+00:00",
        "code": {"commit": "ab", "dirty": False},
    }
    record |= {"packages": {"milpath": "0.1.0"}, "num_threads": 1, "processor": "Some CPU"}
    (folder / "provenance.json").write_text(json.dumps(record | provenance))
    if finished:
        (folder / "metrics.json").write_text("{}")
    return folder


FOLDS = [{"a": "train", "b": "test"}, {"a": "test", "b": "train"}]


def test_a_record_sums_minutes_and_names_seeds_folds_and_machine(tmp_path):
    runs = [
        RecordedRun(
            0, fold, training(tmp_path / method / str(fold), 5 + fold, FOLDS[fold], minutes=1.5, resumed=fold == 1)
        )
        for method in ("attention", "mean")
        for fold in (0, 1)
    ]
    record = record_of(runs, ["milpath", "table"])
    assert record["command"] == ["milpath", "table"]
    assert (record["num_trainings"], record["minutes"], record["num_resumed"]) == (4, 6.0, 2)
    assert (record["seeds"], record["processor"], record["version"], record["dirty"]) == (
        [5, 6],
        "Some CPU",
        "0.1.0",
        False,
    )
    digests = sorted((0, fold, sha256_of_splits(splits)) for fold, splits in enumerate(FOLDS))
    assert record["folds_sha256"] == sha256_of_values(digests)
    # The order of bags in a file is no part of the folds, and other folds have another digest.
    turned = {name: FOLDS[0][name] for name in reversed(FOLDS[0])}
    same = [RecordedRun(0, fold, training(tmp_path / f"same_{fold}", 1, (turned, FOLDS[1])[fold])) for fold in (0, 1)]
    assert record_of(same)["folds_sha256"] == record["folds_sha256"]
    assert record_of(same[:1])["folds_sha256"] != record["folds_sha256"]


def test_a_training_of_an_older_version_took_from_its_start_to_its_last_file(tmp_path):
    folder = training(tmp_path / "run", 0, FOLDS[0])
    os.utime(folder / "metrics.json", (1795741320, 1795741320))  # 2026-11-27 01:02
    assert record_of([RecordedRun(0, 0, folder)])["minutes"] == pytest.approx(2.0)
    (folder / "provenance.json").unlink()
    assert record_of([RecordedRun(0, 0, folder)])["minutes"] is None


def test_what_differs_between_trainings_is_listed_and_what_failed_is_not_counted(tmp_path):
    first = training(tmp_path / "first", 0, FOLDS[0], minutes=1, processor="One")
    second = training(tmp_path / "second", 1, FOLDS[1], minutes=1, processor="Other")
    failed = training(tmp_path / "failed", 2, FOLDS[1], finished=False)
    record = record_of([RecordedRun(0, number, run) for number, run in enumerate((first, second, failed))])
    assert record["processor"] == ["One", "Other"]
    assert (record["num_trainings"], record["seeds"]) == (2, [0, 1])


def test_a_table_without_a_finished_training_has_a_record_of_nothing(tmp_path):
    record = record_of([RecordedRun(0, 0, tmp_path / "missing")], ["milpath", "table"])
    assert (record["num_trainings"], record["minutes"], record["folds_sha256"], record["seeds"]) == (0, None, None, [])
