"""What makes two searches one: a key that a later version of the library added does not make it another."""

import json

import pytest
from hydra import initialize_config_dir

from milpath.config.roots import CONFIG_DIR
from milpath.search.search_plan import keep_plan, plan_search

WORDS = ["data.num_slides=12", "optimizer.lr=1e-3,1e-4"]


@pytest.fixture(autouse=True)
def composed():
    with initialize_config_dir(str(CONFIG_DIR), version_base="1.3"):
        yield


def keep(path, words):
    keep_plan(plan_search({"_target_": "x.BasicSweeper"}, words), "train", path)


def edit(path, change):
    kept = json.loads(path.read_text())
    change(kept["trial"])
    path.write_text(json.dumps(kept))


def test_a_search_of_a_version_without_some_keys_goes_on(tmp_path):
    keep(tmp_path / "search.json", WORDS)

    def older(trial):
        for key in ("target", "metrics", "compile"):
            del trial[key]
        del trial["data"]["verify"]

    edit(tmp_path / "search.json", older)
    keep(tmp_path / "search.json", WORDS)


@pytest.mark.parametrize(
    ("change", "words", "message"),
    [
        (lambda trial: trial["data"].update(num_slides=13), WORDS, "data.num_slides was 13"),
        (lambda trial: trial["data"].update(gone=1), WORDS, "data.gone was 1"),
        (lambda trial: trial["data"].pop("verify"), [*WORDS, "data.verify=false"], "data.verify was None"),
        (lambda trial: trial.pop("target"), [*WORDS, "+target.x=1"], "target was None"),
    ],
)
def test_a_search_with_another_value_or_another_word_is_refused(change, words, message, tmp_path):
    keep(tmp_path / "search.json", WORDS)
    edit(tmp_path / "search.json", change)
    with pytest.raises(ValueError, match=message):
        keep(tmp_path / "search.json", words)
