"""`parts=[file.Class]`: classes of the user's own, named by the user alone."""

import sys
from pathlib import Path

import pytest

from milpath.config.own_parts import OwnParts, import_own_parts
from milpath.targets import registry, target_named

FILE = """
from abc import abstractmethod
from torch import nn
from milpath.targets.nominal import Nominal

class Network(nn.Module): ...
class Encoder(nn.Module):
    takes = "tiles"
class Question(Nominal):
    name = "question"
class Unfinished(Nominal):
    @abstractmethod
    def answer(self): ...
class Clashing(Nominal):
    name = "binary"
class Bags:
    def describe(self): ...
    def write(self, writer): ...
class Nothing: ...
number = 1
"""


@pytest.fixture(autouse=True)
def folder(tmp_path, monkeypatch) -> Path:
    (tmp_path / "parts_of_a_user.py").write_text(FILE)
    (tmp_path / "broken_parts.py").write_text("import torch\nraise RuntimeError('of the user')\n")
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(sys, "path", list(sys.path))
    monkeypatch.setattr(registry, "_TARGETS", dict(registry._TARGETS))
    yield tmp_path
    for name in ("parts_of_a_user", "broken_parts"):
        sys.modules.pop(name, None)


def test_parts_are_found_in_the_working_folder_and_sorted_by_what_they_are(folder):
    parts = import_own_parts([f"parts_of_a_user.{name}" for name in ("Bags", "Question", "Encoder", "Network")])
    own = sys.modules["parts_of_a_user"]
    assert parts == OwnParts(networks=(own.Network,), encoders=(own.Encoder,), sources=(own.Bags,))
    assert type(target_named("question")) is own.Question
    assert sys.path[-1] == str(folder)  # no file of the folder takes the place of an installed package


def test_no_part_is_nothing_at_all():
    before = list(sys.path)
    assert import_own_parts([]) == OwnParts()
    assert sys.path == before


@pytest.mark.parametrize(
    ("name", "message"),
    [
        ("parts_of_a_user.Missing", "cannot import 'parts_of_a_user.Missing' .*give file.Class"),
        ("no_such_file_of_a_user.Network", "cannot import 'no_such_file_of_a_user.Network' .*ModuleNotFoundError"),
        ("Network", "cannot import 'Network' .*give file.Class"),
        ("", "cannot import '' .*give file.Class"),
        ("parts_of_a_user.number", "parts_of_a_user.number is a int; give the name of a class"),
        ("parts_of_a_user.Nothing", "neither a network or encoder"),
        ("parts_of_a_user.Unfinished", "target parts_of_a_user.Unfinished must implement answer"),
        ("parts_of_a_user.Clashing", "the name 'binary' is taken by Binary"),
    ],
)
def test_what_is_not_a_part_is_one_line(name, message):
    with pytest.raises(ValueError, match=message) as caught:
        import_own_parts([name])
    assert "\n" not in str(caught.value)


def test_an_error_in_the_file_of_the_user_is_shown_where_it_is():
    with pytest.raises(RuntimeError, match="of the user"):
        import_own_parts(["broken_parts.Network"])
