"""A network as plain values, and a network from plain values."""

from collections.abc import Mapping
from inspect import signature
from typing import Any

import torch
from torch import Tensor, nn

from milpath.models.network import MILNetwork
from milpath.records.error_text import reason_of
from milpath.records.plain_values import brief


def describe_network(network: nn.Module) -> dict[str, Any]:
    """Return name and arguments from which the network can be built again.

    Raises:
        ValueError: If an argument is no plain value: a checkpoint could not be read again.

    Example:
        >>> from milpath.models import AttentionMIL
        >>> describe_network(AttentionMIL(encoder={"name": "linear", "num_features": 3}))["arguments"]["gated"]
        False
    """
    kind = type(network).__name__
    names = signature(type(network)).parameters
    return {"name": kind, "arguments": {name: plain(getattr(network, name), f"{kind}.{name}") for name in names}}


def plain(value: Any, where: str) -> Any:
    """Return a value made of None, bool, int, float, str, list and dict alone; a number of numpy becomes one of Python.

    Raises:
        ValueError: If that cannot be done; the message says where the value is.
    """
    if value is None or type(value) in (bool, int, float, str):
        return value
    if isinstance(value, Mapping):
        return {str(key): plain(item, f"{where}.{key}") for key, item in value.items()}
    if isinstance(value, list | tuple):
        return [plain(item, f"{where}.{index}") for index, item in enumerate(value)]
    if getattr(value, "ndim", None) == 0 and hasattr(value, "item"):
        return value.item()
    raise ValueError(
        f"{where} is a {type(value).__name__}; a checkpoint keeps plain numbers, texts, lists and mappings"
    )


def build_described(description: Any, weights: Mapping[str, Tensor]) -> MILNetwork:
    """Return a network from its description with some weights; nothing is downloaded and no other file is read.

    A trial network without memory is compared with the weights before the real one is made, so that a description cannot
    ask for more memory than its weights take.

    Args:
        description: `{"name": class in milpath.models, "arguments": {...}}`.
        weights: Name to tensor, as in a state dict.

    Raises:
        ValueError: If the name is no network of this library, the arguments do not fit it, or the weights do not.
    """
    if not isinstance(description, Mapping) or not isinstance(description.get("arguments", {}), Mapping):
        raise ValueError("the network is not described by a name and a mapping of arguments")
    name, arguments = description.get("name"), dict(description.get("arguments", {}))
    networks = _networks()
    if not isinstance(name, str) or name not in networks:
        raise ValueError(f"unknown network {brief(name)}; this milpath has {', '.join(networks)}")
    if isinstance(encoder := arguments.get("encoder"), Mapping):
        # The weights come from the file: neither a download nor a path of another machine may be asked for.
        without = {key: value for key, value in encoder.items() if key not in ("pretrained", "weights_path")}
        arguments["encoder"] = without
    try:
        with torch.device("meta"):
            trial = networks[name](**arguments)
        _require_fit(trial.state_dict(), weights)
        network = networks[name](**arguments)
        network.load_state_dict(dict(weights))
    except (TypeError, RuntimeError, AttributeError, ArithmeticError, LookupError, AssertionError) as error:
        # Arguments of a wrong type fail in whatever way the layers fail.
        raise ValueError(f"network {name}: {reason_of(error)}") from None
    return network


def _networks() -> dict[str, type[MILNetwork]]:
    """Return the networks of this library by name."""
    from milpath import models

    found = {name: getattr(models, name) for name in models.__all__}
    return {name: item for name, item in found.items() if isinstance(item, type) and issubclass(item, MILNetwork)}


def _require_fit(expected: Mapping[str, Tensor], weights: Mapping[str, Tensor]) -> None:
    """Refuse weights that are not those of a network, naming the first that differs."""
    if missing := sorted(expected.keys() - weights.keys()):
        raise ValueError(f"the weights do not fit the network: {len(missing)} are missing, first {missing[0]!r}")
    if extra := sorted(weights.keys() - expected.keys()):
        raise ValueError(f"the weights do not fit the network: {len(extra)} are too many, first {extra[0]!r}")
    for name, value in expected.items():
        if weights[name].shape != value.shape:
            raise ValueError(
                f"the weights do not fit the network: {name!r} is {tuple(weights[name].shape)}, not {tuple(value.shape)}"
            )
