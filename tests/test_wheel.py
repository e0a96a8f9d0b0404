"""What a user installs: the wheel, in an empty folder, away from the checkout."""

import os
import re
import shutil
import subprocess
import sys
from pathlib import Path

import pytest
from PIL import Image

from milpath.models import AttentionMIL, save_network
from tests.commands import SMALL_RUN
from tests.conftest import REPOSITORY


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


def test_the_wheel_trains_from_an_empty_folder(installed, tmp_path):
    environment = {**os.environ, "PYTHONPATH": str(installed)}
    where = subprocess.run(
        [sys.executable, "-c", "from milpath.configuration import CONFIG_DIR; print(CONFIG_DIR)"],
        cwd=tmp_path, env=environment, check=True, capture_output=True, text=True,
    )  # fmt: skip
    assert where.stdout.strip() == str(installed / "milpath" / "configs")
    command = [
        sys.executable,
        "-m",
        "milpath.train",
        *SMALL_RUN,
        "trainer.max_epochs=1",
        "report=true",
        "run_name=wheel",
    ]
    result = subprocess.run(command, cwd=tmp_path, env=environment, capture_output=True, text=True)
    assert result.returncode == 0, result.stderr[-3000:]
    assert (tmp_path / "runs/wheel/metrics.json").is_file()
    assert (tmp_path / "runs/wheel/report.html").is_file()
    assert sorted(path.name for path in tmp_path.iterdir()) == ["runs", "stores"]


def test_the_notebook_lines_of_the_readme_run_as_written(shared_data, tmp_path, monkeypatch, capsys):
    code = re.findall(r"```python\n(.*?)```", (REPOSITORY / "README.md").read_text(), flags=re.DOTALL)
    assert len(code) == 1
    network = AttentionMIL(encoder={"name": "tile_cnn", "tile_size": 64, "embedding_dim": 8}).eval()
    tiling = {"rule": "darkest", "tile_size": 64, "num_tiles": 16}
    save_network(network, tmp_path / "best.ckpt", class_names=("benign", "malignant"), tiling=tiling)
    shutil.copy(shared_data / "slides" / "CMU-1-Small-Region.svs", tmp_path / "slide.svs")
    monkeypatch.chdir(tmp_path)
    exec(compile(code[0], "README.md", "exec"), {})
    assert re.fullmatch(r"malignant 0\.\d+\n", capsys.readouterr().out)
    with Image.open("montage.png") as picture:
        assert min(picture.size) > 400
