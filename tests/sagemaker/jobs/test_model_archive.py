import json
import os
import subprocess
import sys
import tarfile

import numpy as np
import pytest

from milpath.models import load_network
from milpath.models.checkpoint import load_card
from milpath.sagemaker.jobs.model_archive import write_model_archive, write_model_dir
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


def test_the_archive_serves_itself_without_lightning_hydra_or_pandas(unpacked, endpoint, tiles):
    environment = os.environ | {"PYTHONPATH": str(unpacked / "code")}
    command = [sys.executable, "-c", PROGRAM, str(unpacked)]
    shown = subprocess.run(command, cwd="/", env=environment, input=npy(tiles), capture_output=True, check=False)
    assert shown.returncode == 0, shown.stderr.decode()[-2000:]
    found = json.loads(shown.stdout)
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
