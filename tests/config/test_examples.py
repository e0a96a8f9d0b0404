"""The commands of `milpath examples`: each one is of milpath, composes, and leaves nothing open."""

import shlex

import pytest
from omegaconf import OmegaConf

from milpath.__main__ import COMMANDS, main, split_command
from milpath.config.examples import EXAMPLES
from tests.commands import here

EVERY = [line for line in EXAMPLES.replace("\\\n", "").splitlines() if line.startswith("milpath ")]


@pytest.mark.parametrize("line", EVERY)
def test_every_example_composes(line, tmp_path, capsys, monkeypatch):
    monkeypatch.setenv("AWS_REGION", "eu-central-1")
    program, *words = shlex.split(line)
    name, words = split_command(words)
    assert program == "milpath"
    assert name in COMMANDS
    sweep = "-m" in words
    words = [word.partition(",")[0] if sweep and "," in word else word for word in words if word != "-m"]
    shown = [] if "--cfg" in words else ["--cfg", "job"]
    assert here(f"milpath.{name.replace('-', '_')}", *words, *shown, cwd=tmp_path) == 0
    assert OmegaConf.missing_keys(OmegaConf.create(capsys.readouterr().out)) == set()


def test_the_examples_are_printed_and_are_a_shell_script(monkeypatch, capsys):
    monkeypatch.setattr("sys.argv", ["milpath", "examples"])
    main()
    assert capsys.readouterr().out == EXAMPLES
    lines = [line for line in EXAMPLES.splitlines() if line]
    assert all(line.startswith(("# ", "milpath ", "    ")) for line in lines)
    names = {split_command(shlex.split(line)[1:])[0] for line in EVERY}
    assert names >= {"tile", "train", "evaluate", "predict", "app", "table", "sagemaker.launch"}
