"""What a test does that asks for real data: it is skipped in one line, and in continuous integration it fails."""

import re
from pathlib import Path

import pytest

from tests.conftest import REPOSITORY
from tests.real_data import SOURCES, RealData

Skipped, Failed = pytest.skip.Exception, pytest.fail.Exception


@pytest.mark.parametrize("name", SOURCES)
def test_without_a_set_a_test_is_skipped_and_says_in_one_line_how_to_get_it(tmp_path, name):
    with pytest.raises(Skipped) as skip:
        RealData(tmp_path) / name
    said = str(skip.value)
    assert "\n" not in said
    assert said.startswith(f"left out: no real data at {tmp_path / name}; get ")
    assert "https://" in said
    assert said.endswith(f"set MILPATH_SHARED_DATA to the folder with {name}/")


def test_continuous_integration_leaves_nothing_out(tmp_path, monkeypatch):
    monkeypatch.setenv("CI", "true")
    monkeypatch.setenv("MILPATH_SHARED_DATA", str(tmp_path))
    with pytest.raises(
        Failed, match=r"no real data at .*/mnist, and CI is set, so nothing may be left out; get mnist.npz"
    ):
        RealData.of_the_environment() / "mnist"


def test_a_folder_that_somebody_named_must_exist(tmp_path, monkeypatch):
    monkeypatch.delenv("CI", raising=False)
    monkeypatch.setenv("MILPATH_SHARED_DATA", str(tmp_path / "tpyo"))
    with pytest.raises(Failed, match=rf"MILPATH_SHARED_DATA is {tmp_path}/tpyo, which is not a folder"):
        RealData.of_the_environment() / "mnist"


def test_whoever_has_one_set_of_data_runs_its_tests(tmp_path, monkeypatch):
    monkeypatch.delenv("CI", raising=False)
    monkeypatch.setenv("MILPATH_SHARED_DATA", str(tmp_path))
    (tmp_path / "mnist").mkdir()
    assert RealData.of_the_environment() / "mnist/mnist.npz" == tmp_path / "mnist" / "mnist.npz"
    with pytest.raises(Skipped):
        RealData.of_the_environment() / "slides"


def test_every_set_that_a_test_reads_says_where_to_get_it():
    asked = set()
    for path in Path(REPOSITORY, "tests").rglob("*.py"):
        asked |= set(re.findall(r'shared_data / "(\w+)', path.read_text(encoding="utf-8")))
    assert asked <= set(SOURCES)


def test_continuous_integration_names_the_folder():
    script = (REPOSITORY / ".ci/run").read_text(encoding="utf-8")
    assert "export CI=true" in script
    assert "export MILPATH_SHARED_DATA=" in script
