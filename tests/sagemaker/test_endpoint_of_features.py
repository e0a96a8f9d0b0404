"""An endpoint of a network that was trained on features: it takes features, and tiles if its encoder is packaged."""

import io
import json
import os
import subprocess
import sys
import tarfile
import zipfile

import numpy as np
import pandas as pd
import pytest
import torch
from PIL import Image
from starlette.testclient import TestClient

from milpath.data.store.bag_store import BagStore
from milpath.encoding.extract_features import extract_features, tile_options
from milpath.models import AttentionMIL, load_network, save_network
from milpath.models.encoders import open_encoder
from milpath.sagemaker.serve import create_app
from milpath.slides.cut_slide import cut_slide
from tests.pyramids import tissue, write_pyramid
from tests.sagemaker.jobs.test_model_archive import PROGRAM
from tests.sagemaker.request_bodies import npy

pytest.importorskip("timm")
NPY = {"content-type": "application/x-npy"}


@pytest.fixture(scope="module")
def workplace(tmp_path_factory):
    """A slide, its tiles, its features, and a network of them."""
    folder = tmp_path_factory.mktemp("features")
    slide = write_pyramid(folder / "slides/slide.tiff", tissue(120, 130, 1), factors=(4, 1))
    encoder = open_encoder("efficientnet_lite0")
    card = encoder.card.to_dict()
    options = tile_options(card, tile_size=64, microns_per_pixel=1.0)
    extract_features(folder / "slides", folder / "store", encoder, card, options, device="cpu")
    store = BagStore.open(folder / "store")
    torch.manual_seed(0)
    network = AttentionMIL(encoder={"name": "linear", "num_features": 1280, "hidden_dims": [16]}).eval()
    words = {"tiling": store.description["tiling"], "encoder": store.description["encoder"] | {"dtype": "float16"}}
    save_network(network, folder / "network.pt", class_names=("benign", "malignant"), **words)
    np.save(folder / "tiles.npy", cut_slide(slide, options).pixels)
    return folder


def package(run_here, folder, name, *words):
    status, message = run_here(
        "milpath.sagemaker.package", "checkpoint=network.pt", f"output={name}", *words, cwd=folder
    )
    if status:
        return message
    with tarfile.open(folder / name) as archive:
        archive.extractall(folder / f"{name}.unpacked", filter="data")
    return folder / f"{name}.unpacked"


def zipped(tiles) -> bytes:
    file = io.BytesIO()
    with zipfile.ZipFile(file, "w") as archive:
        for number, tile in enumerate(tiles):
            png = io.BytesIO()
            Image.fromarray(tile).save(png, "PNG")
            archive.writestr(f"slide_{number}.png", png.getvalue())
    return file.getvalue()


def test_tiles_and_features_give_the_answer_of_predict(workplace, run_here):
    words = ["checkpoint=network.pt", "slides=slides", "output=predicted", "device=cpu", "pictures=false"]
    assert run_here("milpath.predict", *words, cwd=workplace)[0] == 0
    (row,) = pd.read_csv(workplace / "predicted/predictions.csv").to_dict("records")
    weights = pd.read_csv(workplace / "predicted/attention.csv")["weight"]
    model_dir = package(run_here, workplace, "with.tar.gz", "include_encoder=true")
    tiles, store = np.load(workplace / "tiles.npy"), BagStore.open(workplace / "store")
    requests = {
        "features": (npy(store.read(0)), NPY),
        "tiles": (npy(tiles), NPY),
        "zip": (zipped(tiles), {"content-type": "application/zip"}),
    }
    with TestClient(create_app(model_dir), raise_server_exceptions=False) as client:
        for body, headers in requests.values():
            answer = client.post("/invocations", content=body, headers=headers)
            assert answer.status_code == 200, answer.text
            (found,) = answer.json()["predictions"]
            assert found["probabilities"]["malignant"] == pytest.approx(row["probability_malignant"], abs=1e-4)
            np.testing.assert_allclose(found["attention"], weights, atol=1e-4)
        several = client.post("/invocations", content=npy(np.stack([tiles, tiles])), headers=NPY)
        assert len(several.json()["predictions"]) == 2
        for body, message in ((npy(tiles[:, :32]), "expected (tiles, 64, 64, 3)"), (npy(store.read(0)[:, 1:]), "1280")):
            refused = client.post("/invocations", content=body, headers=NPY)
            assert (refused.status_code, message in refused.json()["error"]) == (400, True)
    # The archive holds all that it needs, without Lightning, Hydra and pandas.
    environment = os.environ | {"PYTHONPATH": str(model_dir / "code")}
    # Torch asks whether pandas exists, which a wall would answer with an error; these modules do not exist.
    program = PROGRAM.replace("sys.meta_path.insert(0, Wall())", "sys.modules.update(dict.fromkeys(ALLOWED_NOT))")
    assert program != PROGRAM
    command = [sys.executable, "-c", program, str(model_dir)]
    shown = subprocess.run(command, cwd="/", env=environment, input=npy(tiles), capture_output=True, check=False)
    assert shown.returncode == 0, shown.stderr.decode()[-2000:]
    (found,) = json.loads(shown.stdout)["answer"]["predictions"]
    assert found["probabilities"]["malignant"] == pytest.approx(row["probability_malignant"], abs=1e-4)
    assert "timm" in (model_dir / "code/requirements.txt").read_text()


def test_without_its_encoder_an_endpoint_says_how_to_package_it(workplace, run_here):
    model_dir = package(run_here, workplace, "without.tar.gz")
    tiles = np.load(workplace / "tiles.npy")
    with TestClient(create_app(model_dir), raise_server_exceptions=False) as client:
        refused = client.post("/invocations", content=zipped(tiles), headers={"content-type": "application/zip"})
        assert refused.status_code == 415
        assert "packaged with include_encoder=true" in refused.json()["error"]
        assert client.post("/invocations", content=npy(tiles), headers=NPY).status_code == 400


def test_an_encoder_that_is_not_here_or_unknown_is_not_packaged(workplace, run_here, tmp_path):
    network = load_network(workplace / "network.pt")
    content = torch.load(workplace / "network.pt", weights_only=True)["milpath"]
    for encoder, more, message in (
        ({"name": "uni_v1"}, [], "include_encoder=true needs a network trained on features of milpath extract"),
        (content["encoder"], ["encoder_weights_path=nowhere.bin"], "encoder_weights_path=nowhere.bin does not exist"),
        (content["encoder"] | {"weights_sha256": "0" * 64}, [], "other weights of efficientnet_lite0 were asked for"),
    ):
        save_network(network, tmp_path / "network.pt", tiling=content["tiling"], encoder=encoder)
        assert message in package(run_here, tmp_path, "model.tar.gz", "include_encoder=true", *more)
        assert not (tmp_path / "model.tar.gz").exists()
