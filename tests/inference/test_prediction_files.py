import csv
import tracemalloc
from pathlib import Path

import numpy as np
import pandas as pd
import pytest

from milpath.inference.prediction_files import ATTENTION_COLUMNS, PredictionFiles, _keep_rows

SOURCE = {"checkpoint": "0", "slides": "slides"}


class KilledError(Exception):
    """Stands for the end of a process."""


def open_files(output):
    return PredictionFiles(output, ("benign", "malignant"), 0.5, SOURCE)


def add(files, name):
    tiles = pd.DataFrame({"x": [0, 64], "y": [0, 0], "level": [0, 0]})
    files.add(name, np.array([0.25, 0.75]), "malignant", False, tiles, None, np.array([0.5, 0.5]))


@pytest.mark.parametrize("name", ["left\u2028right", "left\nright", "left\r\nright", "left\x0cright", 'left","right'])
def test_a_slide_whose_name_holds_the_end_of_a_line_is_known_as_done_when_a_run_goes_on(tmp_path, name):
    with pytest.raises(KilledError), open_files(tmp_path / "out") as files:
        add(files, name)
        raise KilledError
    files = open_files(tmp_path / "out")
    assert files.done == {name}
    with files:
        add(files, "right")
    for table, rows in (("predictions.csv", 1), ("attention.csv", 2)):
        with (tmp_path / "out" / table).open(newline="", encoding="utf-8") as file:
            found = [row["id"] for row in csv.DictReader(file)]
        assert found == [name] * rows + ["right"] * rows


def test_tiles_of_a_slide_called_id_are_written_once_when_a_run_goes_on(tmp_path):
    output = tmp_path / "out"
    with pytest.raises(KilledError), open_files(output) as files:
        add(files, "id")
        raise KilledError
    # As if the process had ended between the tiles and the row of the slide.
    partial = output / ".predictions.csv.partial"
    partial.write_text(partial.read_text(encoding="utf-8").splitlines()[0] + "\n", encoding="utf-8")
    with open_files(output) as files:
        assert files.done == set()
        add(files, "id")
    assert len(pd.read_csv(output / "attention.csv")) == 2


def test_a_run_killed_before_its_first_row_reached_the_disk_goes_on_with_the_names_of_the_columns(tmp_path):
    output = tmp_path / "out"
    with pytest.raises(KilledError), open_files(output):
        raise KilledError
    for name in ("predictions.csv", "attention.csv"):
        (output / f".{name}.partial").write_bytes(b"")
    with open_files(output) as files:
        add(files, "slide")
    assert list(pd.read_csv(output / "predictions.csv")["id"]) == ["slide"]
    assert list(pd.read_csv(output / "attention.csv")["id"]) == ["slide", "slide"]


def test_a_run_killed_between_the_names_of_its_two_tables_goes_on_to_the_same_tables(tmp_path, monkeypatch):
    def predict(output):
        with open_files(output) as files:
            for name in {"a", "b"} - files.done:
                add(files, name)

    predict(tmp_path / "whole")
    rename = Path.replace

    def rename_one(path, target):
        rename(path, target)
        if target.name in ("attention.csv", "predictions.csv"):
            raise KilledError

    with monkeypatch.context() as patch, pytest.raises(KilledError):
        patch.setattr(Path, "replace", rename_one)
        predict(tmp_path / "killed")
    # Whoever finds predictions.csv finds a complete prediction.
    assert not (tmp_path / "killed/predictions.csv").exists()
    predict(tmp_path / "killed")
    for name in ("predictions.csv", "attention.csv", "prediction.json"):
        whole, killed = (sorted((tmp_path / run / name).read_bytes().splitlines()) for run in ("whole", "killed"))
        assert whole == killed


def test_going_on_after_many_slides_needs_no_memory_for_their_tiles(tmp_path):
    path = tmp_path / ".attention.csv.partial"
    row = "slide," + "1," * (len(ATTENTION_COLUMNS) - 2) + "0." + "1" * 100 + "\r\n"
    path.write_text(",".join(ATTENTION_COLUMNS) + "\r\n" + row * 100_000 + "slide,1,1,1", newline="")
    tracemalloc.start()
    assert _keep_rows(path) == {"slide"}
    largest = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    assert largest < 1e6
    assert path.stat().st_size == len(",".join(ATTENTION_COLUMNS)) + 2 + 100_000 * len(row)


def test_rows_of_another_version_are_predicted_again(tmp_path):
    """An unfinished `attention.csv` without the places on level 0 cannot be continued."""
    tiles = pd.DataFrame({"x": [0], "y": [1], "level": [0], "x0": [0], "y0": [4], "size0": [512]})
    source = {"checkpoint": "1", "slides": "2"}
    with pytest.raises(KeyboardInterrupt), PredictionFiles(tmp_path, ("a", "b"), 0.5, source) as files:
        files.add("first", np.array([0.2, 0.8]), "b", False, tiles, None, np.array([1.0]))
        raise KeyboardInterrupt
    partial = tmp_path / ".attention.csv.partial"
    assert partial.read_text().splitlines()[1] == "first,0,0,1,0,0,4,512,,1"
    partial.write_text("id,tile,x,y,level,microns,weight\nfirst,0,0,1,0,,1\n")
    assert PredictionFiles(tmp_path, ("a", "b"), 0.5, source).done == set()


def test_a_run_killed_before_it_had_written_its_record_goes_on(tmp_path):
    output = tmp_path / "out"
    output.mkdir()
    partial = output / ".prediction.json.4711.0badcafe.partial"
    partial.write_text("{")
    with open_files(output) as files:
        add(files, "slide")
    assert not partial.exists()
    other = tmp_path / "other"
    other.mkdir()
    (other / ".thesis.txt.4711.0badcafe.partial").touch()
    with pytest.raises(FileExistsError, match="was not written by a prediction"):
        open_files(other)
