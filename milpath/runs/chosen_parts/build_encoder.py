"""The pretrained encoder of an `encoder` configuration."""

from collections.abc import Iterable
from typing import Any, cast

from omegaconf import DictConfig, OmegaConf
from torch import nn

from milpath.models.encoders import PretrainedEncoder, facts_of, open_encoder
from milpath.runs.instantiation import object_named


def build_encoder(config: DictConfig, encoders: Iterable[type[nn.Module]] = ()) -> PretrainedEncoder:
    """Return the encoder of an `encoder` configuration with its weights, frozen and in evaluation mode, on the CPU.

    A `_target_` is the user's own class; it is resolved here, and the card holds its bare name.

    Args:
        config: An entry of the group `encoder`.
        encoders: The user's own classes, for an entry that is a card.

    Raises:
        FileNotFoundError: If the weights are not on this machine; the message says where to put them.
        ImportError: If a package of the extra `backbones` or `onnx` is missing.
        ValueError: If a value is unknown, or the weights do not fit the encoder.
    """
    return open_encoder(_spec(config), encoders=encoders)


def encoder_facts(config: DictConfig) -> dict[str, Any]:
    """Return what is known of the encoder of an `encoder` configuration before its weights are read.

    Args:
        config: An entry of the group `encoder`.

    Returns:
        Values of its card such as `tile_size` and `microns_per_pixel`.
    """
    facts = facts_of(_spec(config))
    return facts | {"name": getattr(facts.get("name"), "__name__", facts.get("name"))}  # of a class: its bare name


def _spec(config: DictConfig) -> dict[str, Any]:
    """Return an entry in plain values, with the user's class as its name."""
    spec = cast(dict[str, Any], OmegaConf.to_container(config, resolve=True))
    if (target := spec.pop("_target_", None)) is not None:
        spec["name"] = object_named(target, "encoder")
    return spec
