"""The download of PANDA, against a stand-in of the Kaggle CLI that serves a folder."""

import os
import re
import subprocess
import sys
from pathlib import Path

import pytest

SCRIPT = Path(__file__).resolve().parent.parent / "scripts" / "get_panda.py"
TIFF = b"II*\0" + bytes(60)
# Serves files of $SERVED, packs the table into an archive as Kaggle does, answers 404, and writes down what was asked for.
STANDIN = """#!{python}
import os, shutil, sys, zipfile
from pathlib import Path
words = sys.argv[1:]
assert words[:3] == ["competitions", "download", "prostate-cancer-grade-assessment"], words
name = words[words.index("--file") + 1]
folder = Path(words[words.index("--path") + 1])
served = Path(os.environ["SERVED"])
with (served / "asked.txt").open("a") as file:
    file.write(name + chr(10))
source = served / name
if not source.exists():
    sys.exit("404 Client Error: Not Found for url")
if source.suffix == ".csv":
    with zipfile.ZipFile(folder / (source.name + ".zip"), "w") as archive:
        archive.write(source, source.name)
else:
    shutil.copy(source, folder / source.name)
"""


@pytest.fixture
def kaggle(tmp_path, monkeypatch):
    """A folder that the stand-in serves: four slides, one without a mask."""
    program = tmp_path / "bin" / "kaggle"
    program.parent.mkdir()
    program.write_text(STANDIN.replace("{python}", sys.executable))
    program.chmod(0o755)
    served = tmp_path / "served"
    for folder in ("train_images", "train_label_masks"):
        (served / folder).mkdir(parents=True)
    names = ["a", "b", "c", "d"]
    (served / "train.csv").write_text("image_id,isup_grade\n" + "".join(f"{name},1\n" for name in names))
    for name in names:
        (served / "train_images" / f"{name}.tiff").write_bytes(TIFF + name.encode())
        if name != "c":
            (served / "train_label_masks" / f"{name}_mask.tiff").write_bytes(TIFF)
    monkeypatch.setenv("PATH", f"{program.parent}{os.pathsep}{os.environ['PATH']}")
    monkeypatch.setenv("SERVED", str(served))
    monkeypatch.setenv("GET_PANDA_PAUSE", "0")
    return served


def get(output, *words):
    command = [sys.executable, str(SCRIPT), "--output", str(output), *words]
    return subprocess.run(command, capture_output=True, text=True)


def test_it_says_what_it_would_fetch_and_fetches_nothing_unasked(kaggle, tmp_path):
    result = get(tmp_path / "panda")
    assert result.returncode == 0
    assert "10,616 slides, about 380.0 GB" in result.stdout
    assert "add --yes" in result.stdout
    assert not (tmp_path / "panda").exists()


def test_slides_masks_and_table_arrive_and_a_missing_mask_is_said(kaggle, tmp_path):
    result = get(tmp_path / "panda", "--masks", "--yes")
    assert result.returncode == 0, result.stderr
    assert (tmp_path / "panda" / "train.csv").read_text() == (kaggle / "train.csv").read_text()
    for name in "abcd":
        assert (tmp_path / "panda" / "train_images" / f"{name}.tiff").read_bytes() == TIFF + name.encode()
    assert not (tmp_path / "panda" / "train_label_masks" / "c_mask.tiff").exists()
    assert "1 slides have no mask (first: train_label_masks/c_mask.tiff)" in result.stdout
    assert "python -m milpath.tile slides=" in result.stdout


def test_some_slides_are_spread_over_the_table_and_a_second_run_fetches_the_rest_alone(kaggle, tmp_path):
    assert get(tmp_path / "panda", "--slides", "2", "--yes").returncode == 0
    assert sorted(path.stem for path in (tmp_path / "panda" / "train_images").iterdir()) == ["a", "c"]
    (kaggle / "asked.txt").unlink()
    assert get(tmp_path / "panda", "--yes").returncode == 0
    assert sorted((kaggle / "asked.txt").read_text().split()) == ["train_images/b.tiff", "train_images/d.tiff"]


def test_what_is_no_slide_is_named_and_leaves_no_file(kaggle, tmp_path):
    (kaggle / "train_images" / "b.tiff").write_text("<html>accept the rules first</html>")
    result = get(tmp_path / "panda", "--yes")
    assert result.returncode == 1
    assert "failed: train_images/b.tiff: the download is not a TIFF" in result.stderr
    assert sorted(path.name for path in (tmp_path / "panda" / "train_images").iterdir()) == [
        "a.tiff",
        "c.tiff",
        "d.tiff",
    ]


def test_without_the_kaggle_command_it_says_what_to_type(tmp_path, monkeypatch):
    monkeypatch.setenv("PATH", str(tmp_path))
    result = get(tmp_path / "panda", "--yes")
    assert result.returncode == 1
    assert "pip install kaggle" in result.stderr


@pytest.mark.parametrize(
    "says",
    [
        "Authentication required to call the Kaggle API.\n\nFirst, you will need an account:\n  kaggle auth login",
        "Traceback (most recent call last):\n  ...\n403 Client Error: Forbidden for url",
    ],
)
def test_an_account_that_may_not_is_said_in_one_line_before_ten_thousand_slides_are_tried(
    kaggle, tmp_path, monkeypatch, says
):
    program = tmp_path / "bin" / "kaggle"
    program.write_text(
        f"#!{sys.executable}\nimport sys\nwith open({str(tmp_path / 'asked')!r}, 'a') as asked:\n    asked.write('x')\nsys.exit({says!r})"
    )
    monkeypatch.setenv("GET_PANDA_PAUSE", "60")  # nor is it tried again
    result = get(tmp_path / "panda", "--yes")
    assert result.returncode == 1
    assert result.stderr.count("\n") == 1
    assert re.search("train.csv could not be downloaded: (Authentication required|403 Client Error)", result.stderr)
    assert "--help for account, rules and token" in result.stderr
    assert (tmp_path / "asked").read_text() == "x"
