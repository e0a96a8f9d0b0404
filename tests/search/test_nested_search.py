"""The nested search of a table."""

import json

import pandas as pd
import pytest
from hydra import compose, initialize_config_dir

from milpath.config.roots import CONFIG_DIR
from milpath.search.cross_validation import Training, plan_trainings
from milpath.search.nested_search import choose, write_choices


@pytest.fixture
def trainings(tmp_path) -> list[Training]:
    plan = plan_trainings([], ["attention"], 2, 1, tmp_path, search={"optimizer.lr": [0.1, 0.2]})
    for training, (val, test) in zip(plan, [(0.6, 0.9), (0.8, 0.5), (0.7, 0.1), (0.4, 1.0)], strict=True):
        training.run_dir.mkdir(parents=True)
        metrics = {"val": {"auroc": val}, "test": {"auroc": test}}
        (training.run_dir / "metrics.json").write_text(json.dumps(metrics))
    return plan


def test_the_candidate_of_a_fold_is_chosen_on_its_validation_split(trainings):
    assert choose(trainings, "val/auroc", "max") == [trainings[1], trainings[2]]
    assert choose(trainings, "val/auroc", "min") == [trainings[0], trainings[3]]


def test_the_test_split_changes_no_choice(trainings):
    before = choose(trainings, "val/auroc", "max")
    for training in trainings:
        path = training.run_dir / "metrics.json"
        metrics = json.loads(path.read_text())
        path.write_text(json.dumps(metrics | {"test": {"auroc": 1 - metrics["test"]["auroc"]}}))
    assert choose(trainings, "val/auroc", "max") == before


def test_a_candidate_that_failed_is_not_chosen_and_is_named(trainings, tmp_path):
    (trainings[1].run_dir / "metrics.json").unlink()
    (trainings[1].run_dir / "failure.txt").write_text("FloatingPointError: train/loss is nan\n")
    chosen = choose(trainings, "val/auroc", "max")
    assert chosen[0] == trainings[0]
    assert write_choices(trainings, chosen, "val/auroc", tmp_path / "choices.csv") == 1
    table = pd.read_csv(tmp_path / "choices.csv")
    assert table["chosen"].tolist() == [True, False, True, False]
    assert table["candidate"].tolist() == ["optimizer.lr=0.1", "optimizer.lr=0.2"] * 2
    assert table["failure"][1] == "FloatingPointError: train/loss is nan"


def test_candidates_and_published_figures_are_typed_as_the_readme_says():
    words = ["output=table", "search={optimizer.lr: [1e-4, 5e-4]}", "published={attention: 0.8}"]
    with initialize_config_dir(str(CONFIG_DIR), version_base="1.3"):
        config = compose("table", words)
    assert config.search == {"optimizer.lr": [1e-4, 5e-4]}
    assert config.published == {"attention": 0.8}


def test_candidates_that_are_no_list_are_refused(tmp_path):
    with pytest.raises(ValueError, match="must give each key a list"):
        plan_trainings([], ["attention"], 2, 1, tmp_path, search={"optimizer.lr": 0.1})
