"""The files of a user that an archive must hold."""

import sys

import pytest

from milpath.config.own_files import own_files, own_names


@pytest.fixture
def folder(tmp_path, monkeypatch):
    monkeypatch.setattr(sys, "path", [*sys.path, str(tmp_path)])
    for name, text in {
        "own_part.py": "import numpy, own_package.layers\nfrom own_plain import value\n",
        "own_plain.py": "value = 1\n",
        "own_unused.py": "",
        "numpy.py": "raise RuntimeError('not the installed package')\n",
        "own_package/__init__.py": "",
        "own_package/layers.py": "from . import sums\nfrom .deep.more import more\nimport own_part\n",
        "own_package/sums.py": "",
        "own_package/unused.py": "",
        "own_package/deep/__init__.py": "",
        "own_package/deep/more.py": "from ..sums import *\nmore = 1\n",
        "own_broken.py": "class\n",
        "milpath/__init__.py": "",
    }.items():
        (tmp_path / name).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / name).write_text(text)
    return tmp_path


def test_a_module_comes_with_what_it_imports_from_the_folder_and_nothing_else(folder):
    found = own_files(["own_part"], folder)
    assert sorted(found) == [
        "own_package/__init__.py",
        "own_package/deep/__init__.py",
        "own_package/deep/more.py",
        "own_package/layers.py",
        "own_package/sums.py",
        "own_part.py",
        "own_plain.py",
    ]
    assert found["own_plain.py"] == b"value = 1\n"
    assert "own_part" not in sys.modules


@pytest.mark.parametrize("name", ["numpy", "torch.nn", "milpath.models", "no_such_module", ""])
def test_installed_packages_milpath_and_missing_modules_are_passed_over(name, folder):
    assert own_files([name], folder) == {}


def test_a_file_that_is_not_python_is_named(folder):
    with pytest.raises(ValueError, match=r"own_broken.py is not valid Python: invalid syntax"):
        own_files(["own_broken"], folder)


def test_the_own_names_of_a_configuration_are_found_at_any_depth(folder):
    content = {
        "model": {"_target_": "own_part.Network", "encoder": {"_target_": "torch.nn.Linear"}, "width": 3},
        "callbacks": [{"_target_": "own_package.layers.Callback"}, {"_target_": "milpath.models.AttentionMIL"}, None],
        "metrics": {"_target_": None},
    }
    assert own_names(content, folder) == ["own_part.Network", "own_package.layers.Callback"]
