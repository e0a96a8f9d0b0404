import json
import subprocess
import sys
import tarfile
import tomllib
from importlib.metadata import version
from pathlib import Path

import pytest
from packaging.requirements import Requirement

from milpath.sagemaker.jobs.source_archive import PINNED, write_source

REPOSITORY = Path(__file__).resolve().parents[3]
OVERRIDES = ["trainer=sagemaker", "seed=3"]


@pytest.fixture
def archive(tmp_path):
    def write(**options):
        path = tmp_path / "source.tar.gz"
        digest = write_source(path, OVERRIDES, **options)
        with tarfile.open(path) as file:
            file.extractall(tmp_path / "code", filter="data")
        return tmp_path / "code", digest

    return write


def test_the_archive_holds_what_the_toolkit_starts(archive):
    folder, _ = archive()
    assert json.loads((folder / "job.json").read_text()) == {"overrides": OVERRIDES, "config_dirs": []}
    assert "from milpath.sagemaker.jobs.training_job import main" in (folder / "train.py").read_text()
    assert not list(folder.rglob("__pycache__"))


def test_the_library_in_the_archive_finds_its_own_configuration_and_version(archive):
    folder, _ = archive()
    program = (
        "from importlib.metadata import distribution; from milpath.config.roots import CONFIG_DIR;"
        "print(distribution('milpath').locate_file('milpath')); print(CONFIG_DIR)"
    )
    shown = subprocess.run([sys.executable, "-c", program], cwd=folder, capture_output=True, text=True, check=True)
    assert [folder / line for line in shown.stdout.split("\n")[:2]] == [
        folder / "milpath",
        folder / "milpath" / "configs",
    ]
    for name in ("train.yaml", "trainer/sagemaker.yaml", "paths/sagemaker.yaml"):
        assert (folder / "milpath" / "configs" / name).is_file()


def test_equal_content_gives_an_equal_archive(archive):
    assert archive()[1] == archive()[1]


def test_requirements_are_the_versions_installed_here(archive):
    folder, _ = archive()
    lines = (folder / "requirements.txt").read_text().split()
    assert f"lightning=={version('lightning')}" in lines
    assert all("==" in line and "+" not in line for line in lines)


def test_every_dependency_is_pinned_but_those_of_the_image():
    project = tomllib.loads((REPOSITORY / "pyproject.toml").read_text())["project"]
    dependencies = {Requirement(line).name for line in project["dependencies"]}
    assert dependencies - set(PINNED) == {"torch", "torchvision", "numpy"}
    assert set(PINNED) <= dependencies


def test_requirements_may_be_a_file_of_the_user(archive, tmp_path):
    own = tmp_path / "own.txt"
    own.write_text("lightning==2.6.0\n")
    folder, _ = archive(requirements=str(own))
    assert (folder / "requirements.txt").read_text() == "lightning==2.6.0\n"
    with pytest.raises(FileNotFoundError, match=r"sagemaker.requirements=nowhere.txt does not exist"):
        archive(requirements="nowhere.txt")


def test_the_smddp_requirements_keep_to_numpy_1(archive):
    folder, _ = archive(requirements="smddp")
    lines = (folder / "requirements.txt").read_text().split("\n")
    assert any(line.startswith("numpy==1.26") for line in lines)
    assert {line.split("==")[0] for line in lines if "==" in line} >= set(PINNED)
    assert not any(line.split("==")[0] in ("torch", "torchvision") for line in lines)


def test_configuration_of_the_user_travels_with_the_job(archive, tmp_path):
    own = tmp_path / "own"
    (own / "experiment").mkdir(parents=True)
    (own / "experiment" / "mine.yaml").write_text("# @package _global_\nseed: 7\n")
    folder, _ = archive(config_dirs=[own])
    assert (folder / "configs_0" / "experiment" / "mine.yaml").is_file()
    assert json.loads((folder / "job.json").read_text())["config_dirs"] == ["configs_0"]
