"""Which runs may be compared, and what is said where their bags differ."""

import json

import numpy as np
import pandas as pd
import pytest

from milpath.reports.compare.compared_runs import names_of_runs, read_compared
from milpath.targets import target_named
from tests.compared_runs import write_class_run, write_number_run, write_times_run


def test_bags_are_brought_into_one_order_with_the_classes_that_each_run_predicted(tmp_path):
    paths = [write_class_run(tmp_path / "a", seed=1), write_class_run(tmp_path / "b", seed=2, reverse=True)]
    compared = read_compared(paths)
    assert compared.names == ["a", "b"]
    assert compared.notes == ()
    assert compared.groups is None
    first, second = compared.runs
    assert np.array_equal(first.outcomes.labels, second.outcomes.labels)
    for run in compared.runs:
        table = pd.read_csv(run.folder.path / "predictions.csv").set_index("id").loc[list(compared.bag_ids)]
        assert run.outcomes.probabilities[:, 1] == pytest.approx(table["probability_malignant"].to_numpy())
        # The threshold of these runs is 0.3.
        assert run.outcomes.predicted.tolist() == (table["probability_malignant"] >= 0.3).astype(int).tolist()


def test_other_bags_are_refused_with_their_numbers_or_left_out_in_words(tmp_path):
    paths = [write_class_run(tmp_path / "a"), write_class_run(tmp_path / "b", first=10, num_bags=50)]
    with pytest.raises(ValueError, match=r"a has 60, b has 50, 50 are shared; give different_bags=shared"):
        read_compared(paths)
    compared = read_compared(paths, different_bags="shared")
    assert len(compared.bag_ids) == 50
    assert compared.notes[0].startswith("The test bags of the runs differ: a has 60, b has 50, 50 are shared.")
    apart = [write_class_run(tmp_path / "c", num_bags=5), write_class_run(tmp_path / "d", first=5, num_bags=5)]
    with pytest.raises(ValueError, match="0 are shared: there is nothing to compare"):
        read_compared(apart, different_bags="shared")


def test_other_labels_targets_and_classes_are_refused(tmp_path):
    first = write_class_run(tmp_path / "a")
    with pytest.raises(ValueError, match=r"1 bag of a and b have different labels \(first: 'bag_3'\)"):
        read_compared([first, write_class_run(tmp_path / "b", changed=3)])
    with pytest.raises(ValueError, match=r"target \(binary\) in a, \(nominal\) in c"):
        read_compared([first, write_class_run(tmp_path / "c", task="nominal")])
    with pytest.raises(ValueError, match=r"classes \(benign, malignant\) in a, \(low, high\) in d"):
        read_compared([first, write_class_run(tmp_path / "d", class_names=("low", "high"))])
    with pytest.raises(ValueError, match=r"target \(binary\) in a, \(regression\) in e"):
        read_compared([first, write_number_run(tmp_path / "e")])
    with pytest.raises(ValueError, match=r"units \(years\) in e, \(months\) in f"):
        read_compared([tmp_path / "e", write_number_run(tmp_path / "f", unit="months")])
    with pytest.raises(ValueError, match=r"times \(2, 4\) in g, \(2, 5\) in h"):
        read_compared([write_times_run(tmp_path / "g"), write_times_run(tmp_path / "h", times=(2.0, 5.0))])


def test_groups_come_from_the_runs_and_must_agree(tmp_path):
    paths = [write_class_run(tmp_path / name, patients=20) for name in "ab"]
    compared = read_compared(paths)
    assert len(np.unique(compared.groups)) == 20
    assert np.array_equal(compared.runs[0].outcomes.groups, compared.runs[1].outcomes.groups)
    ungrouped = write_class_run(tmp_path / "c")
    assert "Only a recorded groups" in read_compared([paths[0], ungrouped]).notes[0]
    with pytest.raises(ValueError, match="a and d group the bags differently"):
        read_compared([paths[0], write_class_run(tmp_path / "d", patients=15)])


def test_runs_of_older_versions_are_binary_with_two_classes_and_otherwise_ask(tmp_path):
    old = [write_class_run(tmp_path / name) for name in "ab"]
    for path in old:
        (path / "target.json").unlink()
    assert read_compared(old).target.name == "binary"
    grades = [write_class_run(tmp_path / name, task="ordinal", class_names=("0", "1", "2")) for name in "cd"]
    for path in grades:
        (path / "target.json").unlink()
    with pytest.raises(ValueError, match="no target.json, which runs of older versions lack; give task=ordinal"):
        read_compared(grades)
    assert read_compared(grades, task="ordinal").target.name == "ordinal"
    known = [write_class_run(tmp_path / name) for name in "gh"]
    assert read_compared(known, task="binary").target.name == "binary"
    with pytest.raises(ValueError, match="task=ordinal: .*g was trained for a binary task; leave task out"):
        read_compared(known, task="ordinal")
    numbers = write_number_run(tmp_path / "e")
    (numbers / "target.json").unlink()
    with pytest.raises(ValueError, match="test its checkpoint again"):
        read_compared([numbers, write_number_run(tmp_path / "f")])


@pytest.mark.parametrize(
    ("content", "words"),
    [
        ("{", "is not JSON"),
        ('{"task": "binary"}', "must hold the task and its state"),
        ('{"task": "os.system", "state": {}}', "is not one of"),
        ('{"task": "binary", "state": {"_target_": "os.system"}}', "refused"),
        ('{"task": "regression", "state": {"columns": ["age"]}}', "lacks units"),
    ],
)
def test_a_damaged_or_hostile_target_is_refused_in_one_line(tmp_path, content, words):
    paths = [write_class_run(tmp_path / name) for name in "ab"]
    (paths[1] / "target.json").write_text(content)
    with pytest.raises(ValueError, match=words) as refused:
        read_compared(paths)
    assert "\n" not in str(refused.value)


def test_one_run_an_unknown_split_and_a_folder_without_predictions_are_refused(tmp_path):
    path = write_class_run(tmp_path / "a")
    other = write_class_run(tmp_path / "b")
    with pytest.raises(ValueError, match="at least 2 run folders, got 1"):
        read_compared([path])
    with pytest.raises(ValueError, match="is given twice"):
        read_compared([path, path])
    with pytest.raises(ValueError, match="no predictions of the split 'val', only of test"):
        read_compared([path, other], split="val")
    with pytest.raises(FileNotFoundError, match=r"no predictions\.csv"):
        read_compared([path, tmp_path])
    with pytest.raises(ValueError, match="a different name for each of 2 runs"):
        read_compared([path, other], names=["x", "x"])


def test_names_are_the_shortest_ends_that_differ(tmp_path):
    assert names_of_runs([tmp_path / "a", tmp_path / "b"]) == ["a", "b"]
    assert names_of_runs([tmp_path / "a" / "fold_0", tmp_path / "b" / "fold_0"]) == ["a/fold_0", "b/fold_0"]


@pytest.mark.parametrize("write", [write_class_run, write_number_run, write_times_run])
def test_the_target_of_a_run_folder_is_that_of_the_run(tmp_path, write):
    path = write(tmp_path / "a")
    record = json.loads((path / "target.json").read_text())
    assert target_named(record["task"]).with_state(record["state"]).state() == record["state"]
