"""What a user installs: the wheel, in an empty folder, away from the checkout."""

import os
import subprocess
import sys
from pathlib import Path

import pytest

from tests.commands import SMALL_RUN
from tests.conftest import REPOSITORY

pytestmark = pytest.mark.slow


@pytest.fixture(scope="module")
def installed(tmp_path_factory) -> Path:
    """A folder that holds nothing but what the wheel installs; its dependencies come from this environment."""
    folder = tmp_path_factory.mktemp("wheel")
    build = [sys.executable, "-m", "build", "--wheel", "--no-isolation", "--outdir", str(folder), str(REPOSITORY)]
    subprocess.run(build, check=True, capture_output=True)
    wheel = next(folder.glob("*.whl"))
    install = [
        sys.executable,
        "-m",
        "pip",
        "install",
        "--no-deps",
        "--quiet",
        "--target",
        str(folder / "site"),
        str(wheel),
    ]
    subprocess.run(install, check=True, capture_output=True)
    return folder / "site"


def test_the_wheel_holds_its_configurations_licence_notice_and_types(installed):
    there = {path.relative_to(REPOSITORY).as_posix() for path in (REPOSITORY / "configs").rglob("*.yaml")}
    assert {
        path.relative_to(installed / "milpath").as_posix() for path in installed.glob("milpath/configs/**/*.yaml")
    } == there
    assert (installed / "milpath" / "py.typed").is_file()
    (about,) = installed.glob("milpath-*.dist-info")
    for name in ("LICENSE", "NOTICE"):
        assert (about / "licenses" / name).read_bytes() == (REPOSITORY / name).read_bytes()
    metadata = (about / "METADATA").read_text()
    assert "License-Expression: Apache-2.0\nLicense-File: LICENSE\nLicense-File: NOTICE\n" in metadata
    tops = {path.name for path in installed.iterdir()} - {"bin", about.name}
    assert tops == {"milpath"}  # no tests, scripts or lock files


def test_the_wheel_trains_from_an_empty_folder(installed, tmp_path):
    environment = {**os.environ, "PYTHONPATH": str(installed)}
    where = subprocess.run(
        [sys.executable, "-c", "from milpath.config.roots import CONFIG_DIR; print(CONFIG_DIR)"],
        cwd=tmp_path, env=environment, check=True, capture_output=True, text=True,
    )  # fmt: skip
    assert where.stdout.strip() == str(installed / "milpath" / "configs")
    program = str(installed / "bin" / "milpath")  # what pip made of [project.scripts]
    command = [program, "train", *SMALL_RUN, "trainer.max_epochs=1", "report=true", "run_name=wheel"]
    result = subprocess.run(command, cwd=tmp_path, env=environment, capture_output=True, text=True)
    assert result.returncode == 0, result.stderr[-3000:]
    assert (tmp_path / "runs/wheel/metrics.json").is_file()
    assert (tmp_path / "runs/wheel/report.html").is_file()
    assert sorted(path.name for path in tmp_path.iterdir()) == ["runs", "stores"]
