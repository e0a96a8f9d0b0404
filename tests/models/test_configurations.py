"""The signature is the schema: a configuration file of a network or an encoder names every argument and no other."""

import inspect
from pathlib import Path

import pytest
from omegaconf import OmegaConf

from milpath import models
from milpath.config.roots import CONFIG_DIR
from milpath.models.encoders import ENCODERS, Backbone


def is_variant(path: Path) -> bool:
    """Whether a file only changes what another of its group says: it builds on that one."""
    bases = [
        entry for entry in OmegaConf.load(path).get("defaults", []) if isinstance(entry, str) and entry != "_self_"
    ]
    return bool(bases)


FILES = sorted((CONFIG_DIR / "model").rglob("*.yaml"))
NETWORKS = [path for path in FILES if path.parent.name == "model" and not is_variant(path)]
ENCODER_FILES = [path for path in FILES if path.parent.name == "encoder" and not is_variant(path)]
VARIANTS = [path for path in FILES if is_variant(path)]
OF_EVERY_ENCODER = {"name", "frozen", "activation_checkpointing", "tile_micro_batch"}


def defaults(constructor) -> dict:
    return {name: parameter.default for name, parameter in inspect.signature(constructor).parameters.items()}


@pytest.mark.parametrize("path", NETWORKS, ids=lambda path: path.stem)
def test_a_network_file_holds_the_arguments_and_defaults_of_its_class(path):
    content = OmegaConf.to_container(OmegaConf.load(path))
    name = content.pop("_target_").removeprefix("milpath.models.")
    assert name in models.__all__
    assert content.pop("defaults") == [{"encoder": "tile_cnn"}]
    # The encoder is a group of its own; the numbers of outputs follow from the data.
    of_data = ("encoder", "num_outputs", "outputs_per_target")
    expected = {key: value for key, value in defaults(getattr(models, name)).items() if key not in of_data}
    assert content == pytest.approx(expected)


def test_every_network_has_a_file_named_after_its_module():
    networks = {name: getattr(models, name) for name in models.__all__ if inspect.isclass(getattr(models, name))}
    modules = {cls.__module__.rpartition(".")[2] for name, cls in networks.items() if not name.endswith("MILOutput")}
    assert {path.stem for path in NETWORKS} == modules


@pytest.mark.parametrize("path", ENCODER_FILES, ids=lambda path: path.stem)
def test_an_encoder_file_holds_the_arguments_of_its_class(path):
    content = OmegaConf.to_container(OmegaConf.load(path), resolve=False)
    assert content["name"] == path.stem
    arguments = set(defaults(ENCODERS.get(path.stem, Backbone)))
    of_colour = set() if path.stem in ("linear", "lenet5") else {"stain_normalisation", "stain_target_path"}
    assert set(content) == arguments | OF_EVERY_ENCODER | of_colour


@pytest.mark.parametrize("path", VARIANTS, ids=lambda path: path.stem)
def test_a_variant_changes_keys_that_its_base_has(path):
    content = OmegaConf.to_container(OmegaConf.load(path))
    base, own = content.pop("defaults")
    assert own == "_self_"
    known = OmegaConf.to_container(OmegaConf.load(path.with_name(f"{base}.yaml")), resolve=False)
    assert content
    assert set(content) <= set(known)
