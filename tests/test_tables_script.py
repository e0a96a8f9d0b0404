"""The script of the published tables asks for what exists."""

import os
import subprocess
from pathlib import Path

import pytest
from hydra import compose, initialize_config_dir
from hydra.core.global_hydra import GlobalHydra

from milpath.config.roots import CONFIG_DIR
from milpath.search.cross_validation import METHODS

SCRIPT = Path(__file__).resolve().parent.parent / "scripts/tables.sh"


@pytest.fixture(scope="module")
def commands(tmp_path_factory) -> list[list[str]]:
    """Every command the script would run: a stand-in for Python writes down its words."""
    folder = tmp_path_factory.mktemp("script")
    stand_in = folder / "python"
    stand_in.write_text('#!/bin/sh\nprintf "%s\\n" "$@" "" >>"$SEEN"\n')
    stand_in.chmod(0o755)
    seen = folder / "seen"
    environment = {**os.environ, "PYTHON": str(stand_in), "SEEN": str(seen)}
    subprocess.run(
        ["bash", str(SCRIPT), "data", "tables"], cwd=folder, env=environment, check=True, capture_output=True
    )
    return [block.split("\n") for block in seen.read_text().rstrip("\n").split("\n\n")]


def test_every_table_composes_and_has_a_folder_of_its_own(commands):
    outputs = set()
    for module, *words in (command[1:] for command in commands):
        assert module == "milpath.table"
        GlobalHydra.instance().clear()
        with initialize_config_dir(str(CONFIG_DIR), version_base="1.3"):
            config = compose("table", words)
        assert set(config.methods) <= set(METHODS)
        assert set(config.published or {}) <= set(config.methods)
        outputs.add(config.output)
    assert len(outputs) == len(commands)


def test_every_experiment_with_a_published_figure_is_in_it(commands):
    asked = {word for command in commands for word in command if word.startswith("experiment=")}
    names = ("musk1", "musk2", "fox", "tiger", "elephant", "ucsb_breast", "glas", "colon_cancer", "mnist_bags")
    assert asked == {f"experiment={name}" for name in names}
    training_bags = [word for command in commands for word in command if word.startswith("data.num_train_bags=")]
    assert [int(word.split("=")[1]) for word in training_bags] == [50, 100, 150, 200, 300, 500]


def test_a_table_that_fails_is_named_and_the_others_run(tmp_path):
    stand_in = tmp_path / "python"
    stand_in.write_text('#!/bin/sh\necho "$@" >>seen\ncase "$*" in *experiment=fox*) exit 1;; esac\n')
    stand_in.chmod(0o755)
    result = subprocess.run(
        ["bash", str(SCRIPT), "data", "tables", "fox", "tiger"],
        cwd=tmp_path,
        env={**os.environ, "PYTHON": str(stand_in)},
        capture_output=True,
        text=True,
    )
    assert result.returncode == 1
    assert result.stderr == "incomplete: fox\n"
    assert [line.split()[2] for line in (tmp_path / "seen").read_text().splitlines()] == [
        "experiment=fox",
        "experiment=tiger",
    ]
