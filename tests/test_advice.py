"""No message tells its reader to load a file with the protection switched off; asked of real files, on every way in."""

import re
from pathlib import Path

import h5py
import numpy as np
import pytest
import torch

from milpath.data.sources.classic_mil import read_instances
from milpath.data.sources.features.feature_files import read_features
from milpath.data.sources.mnist_bags import read_digits
from milpath.data.store.bag_store import BagStore
from milpath.models import AttentionMIL, load_card, load_network
from milpath.models.encoders.backbone import read_weights
from milpath.runs.resume import require_trainer_state

SWITCHES = ("weights_only", "allow_pickle", "safe_globals", "trust", "pickle", "http", "max_header_size", "load it")


class Code:
    """Makes a file where it is unpickled."""

    marker = ""

    def __reduce__(self):
        return (open, (self.marker, "w"))


@pytest.fixture
def code(tmp_path):
    marked = Code()
    marked.marker = str(tmp_path / "ran")
    yield marked
    assert not (tmp_path / "ran").exists()


def refused(load, *arguments) -> str:
    with pytest.raises(ValueError) as caught:
        load(*arguments)
    text = str(caught.value)
    assert text.isprintable(), text
    assert len(text) < 500
    for switch in SWITCHES:
        assert switch not in text, text
    return text


def objects(path: Path, content) -> Path:
    np.save(path, np.array([content], dtype=object), allow_pickle=True)
    return path


@pytest.mark.filterwarnings("ignore")
def test_files_of_torch(code, tmp_path):
    path = tmp_path / "a.pt"
    for content in (code, {"features": code}, {"state_dict": code, "milpath": {}}, {"loops": code}, AttentionMIL):
        torch.save(content, path)
        for load in (load_network, load_card, read_features, read_weights, require_trainer_state):
            assert str(path) in refused(load, path)
    torch.save(code, path)
    said = r"it holds code \((io\.)?open\), which is never run"  # where open lives depends on the Python
    assert re.search(said, refused(read_features, path))
    assert "contains code, which is never run" in refused(require_trainer_state, path)


def test_encoder_weights(code, tmp_path):
    torch.save(code, tmp_path / "a.pth")
    encoder = {"name": "resnet18", "weights_path": str(tmp_path / "a.pth")}
    assert "it holds code" in refused(lambda: AttentionMIL(encoder=encoder))


def test_tiles_of_a_store(code, tmp_path):
    (tmp_path / "store.json").write_text('{"format_version": 1, "sha256": "", "source": {}, "tile_columns": []}')
    (tmp_path / "bags.csv").write_text("bag_id,start,num_tiles\na,0,1\n")
    objects(tmp_path / "tiles.npy", code)
    assert "it holds Python objects, which are never loaded" in refused(BagStore.open, tmp_path)
    (tmp_path / "store.json").write_text('{"format_version": 1, "source": {"tiling": {"_target_": "os.system"}}}')
    assert "begin with an underscore" in refused(BagStore.open, tmp_path)


def test_archives_of_numpy(code, tmp_path):
    array = np.array([code], dtype=object)
    np.savez(tmp_path / "mnist.npz", x_train=array, y_train=array, x_test=array, y_test=array)
    np.savez(tmp_path / "classic.npz", X=array, bag=array, y=array)
    objects(tmp_path / "plain.npy", code).rename(tmp_path / "plain.npz")
    for load, name in ((read_digits, "mnist.npz"), (read_instances, "classic.npz")):
        assert "never loaded" in refused(load, tmp_path / name), name
    assert "not a zip file" in refused(read_instances, tmp_path / "plain.npz")
    (tmp_path / "text.npz").write_bytes(b"hello")
    refused(read_instances, tmp_path / "text.npz")
    refused(read_digits, tmp_path / "text.npz")


def test_hdf5(code, tmp_path):
    (tmp_path / "a.h5").write_bytes(b"\x89HDF\r\n\x1a\n" + b"\x1b[2J" * 20)
    refused(read_features, tmp_path / "a.h5")
    with h5py.File(tmp_path / "b.h5", "w") as file:
        file["features"] = np.array(["x"], dtype=h5py.string_dtype())
    refused(read_features, tmp_path / "b.h5")


@pytest.mark.filterwarnings("ignore")
@pytest.mark.parametrize("words", [["train", "resume_from"], ["evaluate", "checkpoint"], ["predict", "checkpoint"]])
def test_commands(words, code, tmp_path, run_here):
    torch.save({"milpath": code, "state_dict": {}}, tmp_path / "a.ckpt")
    more = {
        "train": ["data=synthetic", "data.num_slides=12", "data.tile_size=32"],
        "evaluate": [],
        "predict": ["slides=.", "output=out"],
    }[words[0]]
    status, error = run_here(f"milpath.{words[0]}", f"{words[1]}={tmp_path}/a.ckpt", *more, cwd=tmp_path)
    assert status == 1
    assert "code" in error
    assert len(error.strip().splitlines()) == 1
    for switch in SWITCHES:
        assert switch not in error
