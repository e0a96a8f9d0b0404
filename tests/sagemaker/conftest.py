"""What the tests of SageMaker share."""

import numpy as np
import pytest
import torch

from milpath.models import AttentionMIL, save_network
from milpath.sagemaker.serve import Endpoint
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


@pytest.fixture
def endpoint(network_path):
    return Endpoint(network_path)


@pytest.fixture(scope="session")
def tiles():
    """A bag of five tiles, uint8."""
    return np.random.default_rng(0).integers(0, 256, (5, TILE_SIZE, TILE_SIZE, 3), dtype=np.uint8)
