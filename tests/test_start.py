"""What a command does not wait for: a person who mistypes a word is told in a second."""

import json
import subprocess
import sys

import pytest


@pytest.mark.parametrize(
    ("door", "unneeded"),
    [
        ("train", ["torch", "pandas"]),
        ("evaluate", ["torch", "pandas"]),
        ("table", ["torch", "pandas"]),
        ("predict", ["lightning", "torchmetrics", "torchvision", "scipy.optimize"]),
    ],
)
def test_a_command_loads_late_what_its_words_do_not_need(door, unneeded):
    code = f"import json, sys, milpath.{door}; print(json.dumps([name for name in {unneeded} if name in sys.modules]))"
    assert json.loads(subprocess.check_output([sys.executable, "-c", code], text=True)) == []
