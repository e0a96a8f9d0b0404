"""The signature is the schema: a configuration file of a network or an encoder names every argument and no other."""

import inspect

import pytest
from omegaconf import OmegaConf

from milpath import models
from milpath.configuration import CONFIG_DIR
from milpath.models.encoders import ENCODERS, Backbone

NETWORKS = sorted((CONFIG_DIR / "model").glob("*.yaml"))
ENCODER_FILES = sorted((CONFIG_DIR / "model" / "encoder").glob("*.yaml"))
OF_EVERY_ENCODER = {"name", "frozen", "activation_checkpointing", "tile_micro_batch"}


def defaults(constructor) -> dict:
    return {name: parameter.default for name, parameter in inspect.signature(constructor).parameters.items()}


@pytest.mark.parametrize("path", NETWORKS, ids=lambda path: path.stem)
def test_a_network_file_holds_the_arguments_and_defaults_of_its_class(path):
    content = OmegaConf.to_container(OmegaConf.load(path))
    name = content.pop("_target_").removeprefix("milpath.models.")
    assert name in models.__all__
    assert content.pop("defaults") == [{"encoder": "tile_cnn"}]
    # The encoder is a group of its own; the number of outputs follows from the data.
    expected = {
        key: value for key, value in defaults(getattr(models, name)).items() if key not in ("encoder", "num_outputs")
    }
    assert content == pytest.approx(expected)


def test_every_network_has_a_file_named_after_its_module():
    networks = {name: getattr(models, name) for name in models.__all__ if inspect.isclass(getattr(models, name))}
    modules = {cls.__module__.rpartition(".")[2] for name, cls in networks.items() if name != "MILOutput"}
    assert {path.stem for path in NETWORKS} == modules


@pytest.mark.parametrize("path", ENCODER_FILES, ids=lambda path: path.stem)
def test_an_encoder_file_holds_the_arguments_of_its_class(path):
    content = OmegaConf.to_container(OmegaConf.load(path), resolve=False)
    assert content["name"] == path.stem
    arguments = set(defaults(ENCODERS.get(path.stem, Backbone)))
    assert set(content) == arguments | OF_EVERY_ENCODER
