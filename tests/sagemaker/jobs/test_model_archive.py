import json
import os
import subprocess
import sys
import tarfile

import numpy as np
import pytest
import torch

from milpath.models import load_network, save_network
from milpath.models.checkpoint import load_card
from milpath.sagemaker import package
from milpath.sagemaker.jobs.model_archive import write_model_archive, write_model_dir
from milpath.targets import registry
from tests.sagemaker.request_bodies import npy

# Imports the endpoint where nothing but its needs can be found, and asks it.
PROGRAM = """
import json, sys

ALLOWED_NOT = ("lightning", "pytorch_lightning", "hydra", "omegaconf", "pandas", "sagemaker", "sklearn", "tifffile", "boto3")

class Wall:
    def find_spec(self, name, path=None, target=None):
        if name.split(".")[0] in ALLOWED_NOT:
            raise ImportError(f"an endpoint has no {name}")

sys.meta_path.insert(0, Wall())
import inference

endpoint = inference.model_fn(sys.argv[1])
data = inference.input_fn(sys.stdin.buffer.read(), "application/x-npy")
body, kind = inference.output_fn(inference.predict_fn(data, endpoint), "application/json")
import milpath
print(json.dumps({"file": milpath.__file__, "answer": json.loads(body)}))
"""


@pytest.fixture(scope="module")
def unpacked(network_path, tmp_path_factory):
    folder = tmp_path_factory.mktemp("model")
    write_model_archive(network_path, folder / "model.tar.gz")
    with tarfile.open(folder / "model.tar.gz") as archive:
        archive.extractall(folder / "unpacked", filter="data")
    return folder / "unpacked"


# A user's file, another one that it imports, and one that it does not.
NETWORK = """
import torch
from milpath.models import MILOutput
from milpath.targets.binary import Binary
from own_layers import scores_of

class Brightest(torch.nn.Module):
    def __init__(self, num_outputs: int = 1):
        super().__init__()
        self.num_outputs, self.layer = num_outputs, torch.nn.Linear(3, num_outputs)

    def forward(self, tiles, mask=None):
        attention = scores_of(tiles, mask).softmax(1)
        return MILOutput(self.layer((attention[..., None] * tiles.mean((3, 4))).sum(1)), attention)

class Lesion(Binary):
    name = "lesion"
"""
LAYERS = """
def scores_of(tiles, mask):
    scores = tiles.mean((2, 3, 4))
    return scores if mask is None else scores.masked_fill(~mask, float("-inf"))
"""
PARTS = "parts=[own_network.Brightest,own_network.Lesion]"


@pytest.fixture
def own_folder(tmp_path, monkeypatch):
    """A working folder with a user's classes and a checkpoint that needs them."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(sys, "path", [*sys.path, str(tmp_path)])
    monkeypatch.setattr(registry, "_TARGETS", dict(registry._TARGETS))
    files = {"own_network.py": NETWORK, "own_layers.py": LAYERS, "notes.py": "secret = 1\n", "inference.py": NETWORK}
    for name, text in files.items():
        (tmp_path / name).write_text(text)
    import own_network

    registry.register_target(own_network.Lesion())
    save_network(own_network.Brightest(), tmp_path / "own.pt", class_names=("benign", "malignant"), task="lesion")
    registry._TARGETS.pop("lesion")
    yield tmp_path
    for name in ("own_network", "own_layers"):
        sys.modules.pop(name, None)


def served(unpacked, tiles):
    """The answer of an unpacked archive, in a process that finds the archive only."""
    environment = os.environ | {"PYTHONPATH": str(unpacked / "code")}
    command = [sys.executable, "-c", PROGRAM, str(unpacked)]
    shown = subprocess.run(command, cwd="/", env=environment, input=npy(tiles), capture_output=True, check=False)
    assert shown.returncode == 0, shown.stderr.decode()[-2000:]
    return json.loads(shown.stdout)


def test_an_archive_holds_the_users_own_classes_that_were_named_and_serves_them(own_folder, command, tiles):
    status, _, errors = command(package, "checkpoint=own.pt", PARTS)
    assert status == 0, errors
    with tarfile.open("model.tar.gz") as archive:
        archive.extractall(own_folder / "unpacked", filter="data")
    code = own_folder / "unpacked/code"
    assert {path.name for path in code.iterdir()} == {
        "inference.py", "milpath", "own_layers.py", "own_network.py", "parts.json"
    }  # fmt: skip
    assert "own_network" not in (own_folder / "unpacked/card.json").read_text()
    found = served(own_folder / "unpacked", tiles)["answer"]
    (answer,) = found.get("predictions", [found])
    network = load_network(own_folder / "own.pt", networks=[sys.modules["own_network"].Brightest])
    bag = torch.from_numpy(tiles).permute(0, 3, 1, 2)[None] / 255
    assert answer["attention"] == pytest.approx(network(bag).attention[0].tolist(), abs=1e-6)
    probabilities = torch.sigmoid(network(bag).logits).item()
    assert answer["probabilities"]["malignant"] == pytest.approx(probabilities, abs=1e-6)


@pytest.mark.parametrize(
    ("parts", "message"),
    [
        ([], "unknown .*lesion|parts=\\[my_parts"),
        (["own_network.Lesion"], r"parts=\[my_parts.MyNetwork\]"),
        (
            ["own_network.Brightest", "own_network.Lesion", "torch.nn.Linear"],
            "torch.nn.Linear is not in a file of the folder",
        ),
        (["own_network.Lesion", "inference.Brightest"], "rename your file"),
    ],
)
def test_a_class_that_is_not_named_or_cannot_be_packed_is_refused(parts, message, own_folder):
    with pytest.raises(ValueError, match=message):
        write_model_archive("own.pt", own_folder / "model.tar.gz", parts=parts)
    assert not (own_folder / "model.tar.gz").exists()
    sys.modules.pop("inference", None)


def test_the_archive_serves_itself_without_lightning_hydra_or_pandas(unpacked, endpoint, tiles):
    found = served(unpacked, tiles)
    assert found["file"] == str(unpacked / "code" / "milpath" / "__init__.py")
    assert found["answer"] == json.loads(endpoint.answer(npy(tiles), "application/x-npy")[0])


def test_the_archive_carries_weights_and_a_card_to_read(unpacked, network_path):
    card = json.loads((unpacked / "card.json").read_text())
    assert (card["class_names"], card["threshold"], card["network"]["name"]) == (
        ["benign", "malignant"],
        0.4,
        "AttentionMIL",
    )
    assert load_card(unpacked / "network.pt") == load_card(network_path)
    expected = load_network(network_path).state_dict()
    for name, value in load_network(unpacked / "network.pt").state_dict().items():
        np.testing.assert_array_equal(value, expected[name])


def test_what_is_no_checkpoint_leaves_nothing_behind(tmp_path):
    bad = tmp_path / "bad.ckpt"
    bad.write_bytes(b"nothing")
    with pytest.raises(ValueError, match=r"bad.ckpt"):
        write_model_archive(bad, tmp_path / "model.tar.gz")
    with pytest.raises(FileNotFoundError):
        write_model_dir(tmp_path / "missing.ckpt", tmp_path / "model")
    assert sorted(path.name for path in tmp_path.iterdir()) == ["bad.ckpt"]
