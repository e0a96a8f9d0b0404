"""Conversion of a network to a description of plain values and back."""

from collections.abc import Mapping
from inspect import signature
from typing import Any

import torch
from torch import Tensor, nn

from milpath.models.network import MILNetwork
from milpath.records.error_text import reason_of
from milpath.records.plain_values import brief


def describe_network(network: nn.Module) -> dict[str, Any]:
    """Return the name and arguments from which the network can be rebuilt.

    Raises:
        ValueError: If an argument is not a plain value: the checkpoint could not be read again.

    Example:
        >>> from milpath.models import AttentionMIL
        >>> describe_network(AttentionMIL(encoder={"name": "linear", "num_features": 3}))["arguments"]["gated"]
        False
    """
    kind = type(network).__name__
    names = signature(type(network)).parameters
    return {"name": kind, "arguments": {name: plain(getattr(network, name), f"{kind}.{name}") for name in names}}


def plain(value: Any, where: str) -> Any:
    """Return a value of only `None`, bool, int, float, str, list and dict; numpy numbers become Python numbers.

    Raises:
        ValueError: If the value cannot be converted; the message says where it is.
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
        f"{where} is a {type(value).__name__}; a checkpoint stores only plain numbers, strings, lists and mappings"
    )


def build_described(description: Any, weights: Mapping[str, Tensor]) -> MILNetwork:
    """Return a network from its description and weights; nothing is downloaded and no other file is read.

    A network on the meta device is compared with the weights before the real one is built, so that a description cannot
    allocate more memory than its weights take.

    Args:
        description: `{"name": class in milpath.models, "arguments": {...}}`.
        weights: Name to tensor, as in a state dict.

    Raises:
        ValueError: If the name is not a network of this library, or the arguments or the weights do not fit it.
    """
    if not isinstance(description, Mapping) or not isinstance(description.get("arguments", {}), Mapping):
        raise ValueError("a network must be described by a name and a mapping of arguments")
    name, arguments = description.get("name"), dict(description.get("arguments", {}))
    networks = _networks()
    if not isinstance(name, str) or name not in networks:
        raise ValueError(f"unknown network {brief(name)}; this version of milpath has {', '.join(networks)}")
    if isinstance(encoder := arguments.get("encoder"), Mapping):
        # The weights come from the file: no download and no path of another machine is used.
        without = {key: value for key, value in encoder.items() if key not in ("pretrained", "weights_path")}
        arguments["encoder"] = without
    try:
        with torch.device("meta"):
            trial = networks[name](**arguments)
        _require_fit(trial.state_dict(), weights)
        network = networks[name](**arguments)
        network.load_state_dict(dict(weights))
    except (TypeError, RuntimeError, AttributeError, ArithmeticError, LookupError, AssertionError) as error:
        # Arguments of a wrong type raise whatever the layers raise.
        raise ValueError(f"network {name}: {reason_of(error)}") from None
    return network


def _networks() -> dict[str, type[MILNetwork]]:
    """Return the networks of this library by name."""
    from milpath import models

    found = {name: getattr(models, name) for name in models.__all__}
    return {name: item for name, item in found.items() if isinstance(item, type) and issubclass(item, MILNetwork)}


def _require_fit(expected: Mapping[str, Tensor], weights: Mapping[str, Tensor]) -> None:
    """Refuse weights that do not fit a network, naming the first that differs."""
    if missing := sorted(expected.keys() - weights.keys()):
        raise ValueError(f"the weights do not fit the network: {len(missing)} are missing, first {missing[0]!r}")
    if extra := sorted(weights.keys() - expected.keys()):
        raise ValueError(f"the weights do not fit the network: {len(extra)} are unexpected, first {extra[0]!r}")
    for name, value in expected.items():
        if weights[name].shape != value.shape:
            raise ValueError(
                f"the weights do not fit the network: {name!r} is {tuple(weights[name].shape)}, not {tuple(value.shape)}"
            )
