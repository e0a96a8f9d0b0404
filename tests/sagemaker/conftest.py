"""What the tests of SageMaker share."""

import sys
import tarfile
from datetime import date
from typing import Any, NamedTuple

import boto3
import numpy as np
import pytest
import torch
from hydra import compose, initialize_config_dir
from moto import mock_aws

from milpath import train
from milpath.config.roots import CONFIG_DIR
from milpath.models import AttentionMIL, save_network
from milpath.sagemaker.endpoint.handlers import Endpoint
from milpath.sagemaker.jobs.model_archive import write_model_archive
from tests.commands import SMALL_RUN, logging_as_before
from tests.sagemaker.request_bodies import TILE_SIZE

# Programs that tests start; importing them here would be an error or do nothing.
collect_ignore = ["standin", "smddp_job.py"]

CLASSES = ("benign", "malignant")
TILING = {"method": "darkest", "num_tiles": 4, "tile_size": TILE_SIZE}


@pytest.fixture(scope="session")
def network():
    """A small network for tiles of 32 px."""
    torch.manual_seed(0)
    encoder = {"name": "tile_cnn", "tile_size": TILE_SIZE, "embedding_dim": 16}
    return AttentionMIL(encoder=encoder, attention_dim=8).eval()


@pytest.fixture(scope="session")
def network_path(network, tmp_path_factory):
    """The network in a file, with a card for slides that are cut into their darkest tiles."""
    path = tmp_path_factory.mktemp("network") / "network.pt"
    save_network(
        network,
        path,
        class_names=CLASSES,
        task="binary",
        threshold=0.4,
        temperature=2.0,
        defer_below=0.6,
        tiling=TILING,
    )
    return path


@pytest.fixture(scope="session")
def feature_path(tmp_path_factory):
    """A network for features of width 5 and three classes, in a file."""
    torch.manual_seed(0)
    network = AttentionMIL(
        encoder={"name": "linear", "num_features": 5, "hidden_dims": [8]}, num_outputs=3, attention_dim=8
    )
    path = tmp_path_factory.mktemp("features") / "network.pt"
    save_network(network, path, class_names=("a", "b", "c"), task="nominal")
    return path


@pytest.fixture(scope="session")
def registered_run(tmp_path_factory):
    """The folder of a training of an epoch, a model.tar.gz and an output.tar.gz."""
    folder = tmp_path_factory.mktemp("registered")
    words = [*SMALL_RUN, "model.encoder.tile_size=32", "trainer.max_epochs=1", "run_name=a"]
    with initialize_config_dir(str(CONFIG_DIR), version_base="1.3"):
        config = compose("train", [*words, f"paths.stores_dir={folder}/stores", f"paths.runs_dir={folder}/runs"])
    train.run(config)
    run_dir = folder / "runs" / "a"
    write_model_archive(run_dir / "checkpoints" / "best.ckpt", folder / "model.tar.gz")
    with tarfile.open(folder / "output.tar.gz", "w:gz") as file:
        for path in sorted(run_dir.glob("*.json")):
            file.add(path, path.name)
    return run_dir


@pytest.fixture
def endpoint(network_path):
    return Endpoint(network_path)


@pytest.fixture(scope="session")
def tiles():
    """A bag of five tiles, uint8."""
    return np.random.default_rng(0).integers(0, 256, (5, TILE_SIZE, TILE_SIZE, 3), dtype=np.uint8)


@pytest.fixture(autouse=True)
def day_before_all_ends(monkeypatch):
    """No image of AWS has come to its end, whenever the tests run."""
    monkeypatch.setattr("milpath.sagemaker.account.image_end.today", lambda: date(2025, 1, 1))


REGION = "eu-central-1"
ROLE = "arn:aws:iam::123456789012:role/Trainer"


@pytest.fixture
def account(monkeypatch):
    """An account that moto plays, with a bucket and a slide in it; every request that is sent is kept."""
    for name in ("AWS_ACCESS_KEY_ID", "AWS_SECRET_ACCESS_KEY", "AWS_SESSION_TOKEN"):
        monkeypatch.setenv(name, "testing")
    for name in ("AWS_PROFILE", "SAGEMAKER_ROLE", "SAGEMAKER_BUCKET"):
        monkeypatch.delenv(name, raising=False)
    for name in ("AWS_REGION", "AWS_DEFAULT_REGION"):
        monkeypatch.setenv(name, REGION)
    with mock_aws():
        played = boto3.Session(region_name=REGION)
        sent = []
        events = played._session.get_component("event_emitter")
        events.register("provide-client-params.sagemaker", lambda params, model, **_: sent.append((model.name, params)))
        # moto answers with empty objects where the service leaves a field out; the SDK's classes refuse these.
        events.register("after-call.sagemaker", _drop_empty)
        s3 = played.client("s3")
        s3.create_bucket(Bucket="slides", CreateBucketConfiguration={"LocationConstraint": REGION})
        s3.put_object(Bucket="slides", Key="panda/train.csv", Body=b"image_id\n")
        monkeypatch.setattr("milpath.sagemaker.jobs.aws_account.boto3_session", lambda region: played)
        yield Account(s3, played.client("sagemaker"), sent, events)


def _drop_empty(parsed, **_):
    for key in [key for key, value in parsed.items() if value == {}]:
        del parsed[key]
    for value in parsed.values():
        if isinstance(value, dict):
            _drop_empty(value)


class Account(NamedTuple):
    s3: Any
    sagemaker: Any
    sent: list
    events: Any

    def requests(self, operation):
        return [body for name, body in self.sent if name == operation]


@pytest.fixture
def command(monkeypatch, capsys):
    """Run a command in this process as it runs from a shell; returns exit status, output and errors."""

    def run(module, *words):
        monkeypatch.setattr(sys, "argv", [module.__name__, *words])
        status = 0
        with logging_as_before():
            try:
                module.main()
            except SystemExit as stopped:
                status = stopped.code
        output, errors = capsys.readouterr()
        return status, output, errors

    return run
