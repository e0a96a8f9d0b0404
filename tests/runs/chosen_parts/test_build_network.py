"""From the configuration of a model to its network: classes of the user's own, and what the data decide."""

import importlib
import sys
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest
import torch
from omegaconf import OmegaConf

from milpath.data import BagDataModule
from milpath.data.store.encoded_store import open_or_encode
from milpath.models import AttentionMIL
from milpath.runs.chosen_parts.build_network import build_network
from milpath.targets import target_named

FILE = """
import torch
from torch import nn
from milpath.models import MILOutput

class Features(nn.Module):
    takes = "features"

    def __init__(self, num_features, width=4):
        super().__init__()
        self.num_features, self.embedding_dim = num_features, width
        self.layer = nn.Linear(num_features, width)

    def forward(self, features):
        return self.layer(features)

class Keeping(Features):
    def __init__(self, num_features, width=4):
        super().__init__(num_features, width)
        self.register_buffer("mean", torch.zeros(num_features))

    def set_statistics(self, mean, std):
        self.mean.copy_(mean)

class Tiles(nn.Module):
    takes = "tiles"

    def __init__(self):
        super().__init__()
        self.embedding_dim = 3
        self.register_buffer("one", torch.ones(1))

    def forward(self, tiles):
        return tiles.mean((2, 3)) * self.one

class Plain(nn.Module):
    def __init__(self, num_features, num_outputs):
        super().__init__()
        self.num_features, self.num_outputs = num_features, num_outputs
        self.layer = nn.Linear(num_features, num_outputs)
"""


@pytest.fixture(autouse=True)
def folder(tmp_path, monkeypatch) -> Path:
    (tmp_path / "parts_to_build.py").write_text(FILE)
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(sys, "path", list(sys.path))
    yield tmp_path
    sys.modules.pop("parts_to_build", None)


class Numbers:
    def describe(self) -> dict:
        return {"version": 1}

    def write(self, writer) -> None:
        draw = np.random.default_rng(0)
        for number in range(12):
            writer.add(f"bag_{number}", draw.normal(3, 2, (4, 5)).astype(np.float32), {"label": number % 2})


def features(folder: Path, standardize: bool = False) -> BagDataModule:
    data = BagDataModule(Numbers(), num_folds=3, stores_dir=str(folder / "stores"), standardize=standardize)
    data.setup()
    return data


def model(encoder: dict) -> OmegaConf:
    return OmegaConf.create({"_target_": "milpath.models.AttentionMIL", "encoder": encoder})


def test_an_encoder_class_of_a_configuration_is_known_by_its_bare_name_and_learns_the_width_of_the_features(folder):
    config = model({"_target_": "parts_to_build.Features", "num_features": None, "width": 6, "frozen": False})
    network = build_network(config, features(folder))
    assert type(network.tile_encoder.network) is sys.modules["parts_to_build"].Features
    assert network.encoder == {"name": "Features", "num_features": 5, "width": 6, "frozen": False}


def test_a_network_without_an_encoder_learns_the_width_of_the_features(folder):
    config = OmegaConf.create({"_target_": "parts_to_build.Plain", "num_features": None})
    network = build_network(config, features(folder))
    assert (network.num_features, network.num_outputs) == (5, 1)


def test_an_encoder_that_keeps_statistics_gets_those_of_the_training_split(folder):
    data = features(folder, standardize=True)
    mean = torch.from_numpy(data.statistics.as_pair()[0])
    network = build_network(model({"_target_": "parts_to_build.Keeping", "num_features": None}), data)
    torch.testing.assert_close(network.tile_encoder.network.mean, mean.float())
    assert data.statistics is None  # the network does it now


@pytest.mark.parametrize(
    ("config", "message"),
    [
        (model({"_target_": "parts_to_build.Features", "num_features": None}), "data.standardize=true needs set_statistics.*Features"),
        (OmegaConf.create({"_target_": "parts_to_build.Plain", "num_features": None}), "data.standardize=true needs set_statistics.*Plain"),
        (model({"_target_": "parts_to_build.Missing"}), "model.encoder: .*Missing"),
        (model({"_target_": "no_such_file.Encoder"}), "model.encoder: .*no_such_file"),
        (model({"_target_": "parts_to_build.Features", "colour": 1}), "encoder Features: .*colour"),
        (OmegaConf.create({"_target_": "parts_to_build.Tiles"}), "Tiles does not (take|accept) its arguments: .*num_outputs"),
        (OmegaConf.create({"_target_": "parts_to_build.Missing"}), "parts_to_build.Missing"),
    ],
)  # fmt: skip
def test_what_cannot_be_built_is_one_line(config, message, folder):
    with pytest.raises(ValueError, match=message) as caught:
        build_network(config, features(folder, standardize=True))
    assert "\n" not in str(caught.value).strip()


def test_kept_features_of_an_encoder_class_are_computed_anew_when_its_file_changes(folder):
    class Pictures:
        def describe(self) -> dict:
            return {"version": 1}

        def write(self, writer) -> None:
            for number in range(6):
                writer.add(f"bag_{number}", np.full((2, 8, 8, 3), 51, np.uint8), {"label": number % 2})

    data = BagDataModule(Pictures(), num_folds=3, stores_dir="stores")
    data.setup()

    def encoded() -> tuple[Path, float]:
        config = model({"_target_": "parts_to_build.Tiles", "frozen": True})
        network: AttentionMIL = build_network(config, data)
        store = open_or_encode(data.tile_store, network.tile_encoder, "stores")
        return store.path, float(store.tiles[0, 0])

    first = encoded()
    assert encoded() == first == (first[0], pytest.approx(0.2))
    (folder / "parts_to_build.py").write_text(FILE.replace("* self.one", "* self.one * 2"))
    sys.modules.pop("parts_to_build")
    importlib.invalidate_caches()
    second = encoded()
    assert second[1] == pytest.approx(0.4)
    assert second[0] != first[0]


def test_pretrained_weights_of_a_head_and_standardised_features_are_refused_together(tmp_path):
    path = tmp_path / "weights.bin"
    names = ("patch_embed.0", "global_attn.attention_a.0", "global_attn.attention_b.0", "global_attn.attention_c")
    shapes = ((8, 3), (4, 8), (4, 8), (1, 4))
    weights = {f"model.{name}.weight": torch.ones(shape) for name, shape in zip(names, shapes, strict=True)}
    weights |= {f"model.{name}.bias": torch.ones(shape[0]) for name, shape in zip(names, shapes, strict=True)}
    torch.save(weights, path)
    config = {"_target_": "milpath.models.FeatherMIL", "attention_dim": 4, "weights_path": str(path)}
    config["encoder"] = {"name": "linear", "num_features": None, "hidden_dims": [8]}
    data = SimpleNamespace(
        fitted_target=target_named("binary"), class_names=("0", "1"), tile_shape=(3,), statistics=None
    )
    network = build_network(OmegaConf.create(config), data)
    assert torch.equal(network.attention_pooling.score_layer.weight, torch.ones(1, 4))
    data.statistics = SimpleNamespace(as_pair=lambda: (np.zeros(3, np.float32), np.ones(3, np.float32)))
    with pytest.raises(
        ValueError, match=r"weights\.bin were trained on features as they are; set data\.standardize=false"
    ):
        build_network(OmegaConf.create(config), data)


def test_an_attention_per_target_is_refused_where_there_is_one_target():
    data = SimpleNamespace(tile_shape=(8,), fitted_target=target_named("binary"), class_names=("a", "b"), task="binary")
    config = OmegaConf.create(
        {"_target_": "milpath.models.AttentionMIL", "attention_per_target": True, "encoder": {"name": "linear"}}
    )
    with pytest.raises(ValueError, match="needs several targets .* and a binary task is one; leave it out"):
        build_network(config, data)
