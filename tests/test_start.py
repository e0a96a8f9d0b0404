"""What a command does not wait for: a person who mistypes a word is told in a second."""

import json
import subprocess
import sys

import pytest

from milpath.__main__ import COMMANDS

HEAVY = ["torch", "lightning", "pandas", "scipy", "sklearn", "matplotlib"]
# The exit status is that of an error of the user.
ERRORS = [
    ["train", "no_such_key=1"],
    ["predict", "no_such_key=1"],
    ["predict"],
    ["tile"],
    ["extract", "encoder=no_such_encoder"],
    ["sagemaker.transform"],
    ["sagemaker.score", "data=synthetic"],
]
# Each command is a process of its own, forked from one that has loaded Hydra and nothing heavy.
PROGRAM = f"""
import json, os, sys
import milpath.config.command
from milpath.__main__ import main

heavy, found = {HEAVY}, []
assert not set(heavy) & set(sys.modules)
for words in json.loads(sys.argv[1]):
    reading, writing = os.pipe()
    if not (process := os.fork()):
        status, sys.argv = 0, ["milpath", *words]
        sys.stdout = sys.stderr = open(os.devnull, "w")
        try:
            main()
        except SystemExit as stop:
            status = stop.code
        os.write(writing, json.dumps([package for package in heavy if package in sys.modules]).encode())
        os._exit(status)
    os.close(writing)
    with os.fdopen(reading) as pipe:
        loaded = json.loads(pipe.read())
    found.append([os.waitstatus_to_exitcode(os.waitpid(process, 0)[1]), loaded])
print(json.dumps(found))
"""


@pytest.fixture(scope="module")
def ended(tmp_path_factory):
    """The exit status of each command line and the heavy packages that it has loaded."""
    lines = [*([name, "--help"] for name in COMMANDS), *ERRORS]
    program = [sys.executable, "-c", PROGRAM, json.dumps(lines)]
    found = json.loads(subprocess.check_output(program, cwd=tmp_path_factory.mktemp("start"), text=True))
    return {" ".join(words): tuple(end) for words, end in zip(lines, found, strict=True)}


@pytest.mark.parametrize("name", COMMANDS)
def test_the_help_of_a_command_does_not_wait_for_torch(ended, name):
    assert ended[f"{name} --help"] == (0, [])


@pytest.mark.parametrize("words", [" ".join(words) for words in ERRORS])
def test_neither_does_an_unknown_or_missing_option(ended, words):
    assert ended[words] == (1, [])


def test_a_prediction_does_not_wait_for_what_only_training_needs():
    unneeded = ["lightning", "torchmetrics", "torchvision", "scipy.optimize"]
    code = (
        "import json, sys, milpath.inference.slide_predictions; "
        f"print(json.dumps([name for name in {unneeded} if name in sys.modules]))"
    )
    assert json.loads(subprocess.check_output([sys.executable, "-c", code], text=True)) == []


def test_the_files_of_a_run_are_read_and_written_without_torch_and_the_rest_of_the_library():
    code = (
        "import importlib, json, pkgutil, sys, milpath.records as records\n"
        "for each in pkgutil.iter_modules(records.__path__): importlib.import_module(f'milpath.records.{each.name}')\n"
        "rooms = {name.split('.')[1] for name in sys.modules if name.startswith('milpath.')}\n"
        "print(json.dumps(['torch' in sys.modules, sorted(rooms)]))"
    )
    assert json.loads(subprocess.check_output([sys.executable, "-c", code], text=True)) == [False, ["records"]]
