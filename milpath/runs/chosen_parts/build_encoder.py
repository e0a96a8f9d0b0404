"""The pretrained encoder of an `encoder` configuration."""

from collections.abc import Iterable
from typing import Any, cast

from omegaconf import DictConfig, OmegaConf
from torch import nn

from milpath.models.encoders import PretrainedEncoder, facts_of, open_encoder
from milpath.models.stains.stain_normalisation import stain_method
from milpath.runs.chosen_parts.stain_target_file import TARGET_FILE, read_stain_target
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
    return _with_stains(spec)


def _with_stains(spec: dict[str, Any]) -> dict[str, Any]:
    """Return an entry with the values of its stain target instead of the file that they are in."""
    method, path = spec.pop("stain_normalisation", "none"), spec.pop("stain_target_path", None)
    if method in (None, "none"):
        if path is not None:
            raise ValueError(
                f"encoder.stain_target_path={path} has no use without encoder.stain_normalisation=macenko or reinhard"
            )
        return spec
    stain_method(method)
    if path is None:
        raise ValueError(
            f"encoder.stain_normalisation={method} needs a target, as there is no training split here; give "
            f"encoder.stain_target_path=FILE, a {TARGET_FILE} of a run or a picture of stained tissue"
        )
    return spec | {"stain_normalisation": method, "stain_target": read_stain_target(path, method)}
