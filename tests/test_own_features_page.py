"""Every block of docs/how-to/own-features.md runs as written, one after the other."""

import importlib
import re
import shutil
from pathlib import Path

import numpy as np
import pandas as pd
import pytest

from milpath.__main__ import split_command
from milpath.data.sources.features.feature_files import read_features, read_origin
from milpath.data.sources.synthetic import SyntheticBags
from tests.commands import here
from tests.conftest import REPOSITORY
from tests.feature_files import write_clam, write_trident
from tests.test_documentation import BLOCKS, commands_in

PAGE = REPOSITORY / "docs/how-to/own-features.md"
FEW = ["trainer.max_epochs=1", "trainer.accelerator=cpu", "report=false", "logger=csv", "callbacks.progress=null"]


NOT_RUN = ("needs weights that are given on request", "needs a slide opened by LazySlide")


@pytest.fixture(scope="module")
def inputs(tmp_path_factory) -> Path:
    """What the page reads: features, their labels, tiles as arrays and as a zip."""
    folder = tmp_path_factory.mktemp("page")
    rng = np.random.default_rng(0)
    names = [f"case_{number:02d}" for number in range(16)]
    pd.DataFrame({"slide_id": names, "label": [0, 1] * 8}).to_csv(folder / "labels.csv", index=False)
    _write_tables(folder, names)
    (folder / "tiles").mkdir()
    for number, name in enumerate(names):
        features = rng.normal(number % 2, 1, (6, 12)).astype(np.float32)
        write_trident(folder / f"features/{name}.h5", features, 512 * rng.integers(0, 90, (6, 2)))
        _write_arrays(folder / "patches_512", name, features, number % 2)
        write_clam(folder, name, features, 512 * rng.integers(0, 90, (6, 2)))
        tiles = rng.integers(0, 250, (4, 32, 32, 3), dtype=np.uint8)
        np.savez(folder / f"tiles/{name}.npz", tiles=tiles, x=32 * np.arange(4), y=np.zeros(4, int))
    SyntheticBags(num_slides=12, tile_size=128).write_folder(folder / "panda")
    shutil.make_archive(str(folder / "train"), "zip", folder / "panda/train")
    shutil.copy(folder / "panda/train.csv", folder / "train.csv")
    (folder / "bad.csv").write_text("slide_id\ncase_03\n")
    return folder


def _write_arrays(folder: Path, name: str, features: np.ndarray, label: int) -> None:
    """Write a slide as torchmil reads it."""
    parts = {
        "features/features_UNI": features,
        "labels": np.array([label]),
        "coords": np.zeros((len(features), 2), int),
    }
    for part, values in parts.items():
        (folder / part).mkdir(parents=True, exist_ok=True)
        np.save(folder / part / f"{name}.npy", values)


def _write_tables(folder: Path, names: list[str]) -> None:
    """Write the tables of STAMP and nnMIL; a patient has one slide."""
    patients, grades = [f"P{name}" for name in names], ["mutated", "wild type"] * 8
    pd.DataFrame({"PATIENT": patients, "KRAS": grades}).to_csv(folder / "clini.csv", index=False)
    files = [f"{name}.h5" for name in names]
    pd.DataFrame({"PATIENT": patients, "FILENAME": files}).to_csv(folder / "slide.csv", index=False)
    split = ["train"] * 8 + ["val"] * 4 + ["test"] * 4
    of_nnmil = pd.DataFrame({"slide_id": names, "patient_id": patients, "split": split, "label": [0, 1] * 8})
    of_nnmil.to_csv(folder / "dataset.csv", index=False)


@pytest.mark.slow
@pytest.mark.filterwarnings("ignore")  # what Lightning says of small data
def test_every_block_of_the_page_runs_as_written(inputs, monkeypatch, capsys):
    monkeypatch.chdir(inputs)
    blocks = [block for block in BLOCKS if block.page == PAGE]
    assert len(blocks) >= 6
    for block in blocks:
        if block.mark == "not run":
            assert block.reason in NOT_RUN, block.where
            continue
        if block.language == "python":
            exec(compile(block.text, block.where, "exec"), {})
            continue
        for words in commands_in(block.text):
            name, rest = split_command(words)
            importlib.import_module(f"milpath.{name}")
            few = {"train": FEW, "evaluate": ["trainer.accelerator=cpu", "report=false"], "predict": ["device=cpu"]}[
                name
            ]
            assert here(f"milpath.{name}", *rest, *few, cwd=inputs) == 0, (words, capsys.readouterr().err)
    assert len(pd.read_csv(inputs / "predictions/predictions.csv")) == 16
    again, labelled = (pd.read_csv(inputs / name / "predictions.csv") for name in ("runs/again", "labelled"))
    assert not again.empty
    assert len(labelled) == 16
    assert len(list((inputs / "predictions/geojson").iterdir())) == 16
    assert pd.read_csv(inputs / "torchmil.csv")["label"].tolist() == [0, 1] * 8
    np.testing.assert_array_equal(
        read_features(inputs / "from_torchmil/case_03.h5").features,
        read_features(inputs / "features/case_03.h5").features,
    )
    assert read_origin(inputs / "FEATURES/h5_files/case_03.h5").tile_size_level0 == 512


@pytest.mark.parametrize("words", re.findall(r"^\| [^|]+ \| `([^`]+)` \|$", PAGE.read_text(), re.MULTILINE))
@pytest.mark.filterwarnings("ignore")
def test_what_a_table_of_the_page_says_to_type_trains(words, inputs, capsys):
    data = ["data=features", "data.path=features"]
    if not re.search(r"data\.(labels|slides)=", words):
        data.append("data.labels=labels.csv")
    run = f"run_name={abs(hash(words))}"
    status = here("milpath.train", *data, *words.split(), *FEW, "test=false", run, cwd=inputs)
    assert status == 0, capsys.readouterr().err
