"""Conversion of a network to a description of plain values and back."""

import copy
from collections.abc import Iterable, Mapping
from inspect import Parameter, signature
from typing import Any

import torch
from torch import Tensor, nn

from milpath.models.encoders.encoder_files import LOADING_KEYS, encoder_names
from milpath.models.encoders.tile_encoder import BACKBONES, ENCODERS, require_own_name
from milpath.models.module_as_encoder import FOUND
from milpath.models.network import MILNetwork
from milpath.records.error_text import reason_of
from milpath.records.plain_values import brief


def describe_network(network: nn.Module) -> dict[str, Any]:
    """Return the name and arguments from which the network can be rebuilt.

    Raises:
        ValueError: If an argument is not a plain value or not stored under its name: the checkpoint could not be read
            again.

    Example:
        >>> from milpath.models import AttentionMIL
        >>> describe_network(AttentionMIL(encoder={"name": "linear", "num_features": 3}))["arguments"]["gated"]
        False
    """
    kind = type(network).__name__
    parameters = signature(type(network)).parameters.values()
    if open_ended := [
        str(item) for item in parameters if item.kind in (Parameter.VAR_POSITIONAL, Parameter.VAR_KEYWORD)
    ]:
        raise ValueError(f"{kind} takes {open_ended[0]}; name each argument, so that a checkpoint can store it")
    names = [item.name for item in parameters]
    if missing := [name for name in names if not hasattr(network, name)]:
        raise ValueError(
            f"{kind} does not store its argument {missing[0]}, so a checkpoint could not rebuild it; set "
            f"self.{missing[0]} = {missing[0]} in its __init__"
        )
    return {"name": kind, "arguments": {name: plain(getattr(network, name), f"{kind}.{name}") for name in names}}


def plain(value: Any, where: str) -> Any:
    """Return a value of only `None`, bool, int, float, str, list and dict.

    A numpy number becomes a Python number, an encoder class its name.

    Raises:
        ValueError: If the value cannot be converted; the message says where it is.
    """
    if value is None or type(value) in (bool, int, float, str):
        return value
    if isinstance(value, type) and issubclass(value, nn.Module):
        return value.__name__  # a user-defined encoder; a checkpoint does not record its module
    if isinstance(value, Mapping):
        return {str(key): plain(item, f"{where}.{key}") for key, item in value.items()}
    if isinstance(value, list | tuple):
        return [plain(item, f"{where}.{index}") for index, item in enumerate(value)]
    if getattr(value, "ndim", None) == 0 and hasattr(value, "item"):
        return value.item()
    raise ValueError(
        f"{where} is a {type(value).__name__}; a checkpoint stores only plain numbers, strings, lists and mappings"
    )


def build_described(
    description: Any,
    weights: Mapping[str, Tensor],
    networks: Iterable[type[nn.Module]] = (),
    encoders: Iterable[type[nn.Module] | nn.Module] = (),
) -> nn.Module:
    """Return a network from its description and weights; nothing is downloaded and no other file is read.

    A network on the meta device is compared with the weights before the real one is built, so that a description cannot
    allocate more memory than its weights take.

    Args:
        description: `{"name": class in milpath.models or of networks, "arguments": {...}}`.
        weights: Name to tensor, as in a state dict.
        networks: User-defined network classes, identified by name like those of this library.
        encoders: User-defined encoder classes, likewise, or modules, of which a copy gets the weights.

    Raises:
        ValueError: If the name is not one of these networks, or the arguments or the weights do not fit it.
    """
    if not isinstance(description, Mapping) or not isinstance(description.get("arguments", {}), Mapping):
        raise ValueError("a network must be described by a name and a mapping of arguments")
    name, arguments = description.get("name"), dict(description.get("arguments", {}))
    known = _networks()
    own: dict[str, type[nn.Module]] = _own_by_name(networks, known, "network")
    if not isinstance(name, str) or name not in known | own:
        raise ValueError(
            f"unknown network {brief(name)}; this version of milpath has {', '.join(known)}; for your own network "
            "give its class: load_network(path, networks=[MyNetwork]) in Python, parts=[my_parts.MyNetwork] in a command"
        )
    own_encoders = _own_by_name(encoders, (*ENCODERS, *BACKBONES, *encoder_names()), "encoder")
    encoder = arguments.get("encoder")
    if isinstance(encoder, str) and encoder in own_encoders:
        encoder = {"name": encoder}
    if isinstance(encoder, Mapping):
        # The weights come from the file: no download and no path of another machine is used.
        without = {key: value for key, value in encoder.items() if key not in LOADING_KEYS}
        if isinstance(encoder_name := without.get("name"), str) and encoder_name in own_encoders:
            without["name"] = own_encoders[encoder_name]
        arguments["encoder"] = without
    if name in known:
        arguments.pop("weights_path", None)  # likewise for a pretrained head
    kind = (known | own)[name]
    try:
        with torch.device("meta"):
            trial = kind(**_with_own_module(arguments))
        require_fit(trial.state_dict(), weights)
        network = kind(**_with_own_module(arguments))
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


def _with_own_module(arguments: Mapping[str, Any]) -> dict[str, Any]:
    """Return arguments in which an encoder that was given as a module is a copy on the CPU, which gets the weights."""
    encoder = arguments.get("encoder")
    if isinstance(encoder, Mapping) and isinstance(module := encoder.get("name"), nn.Module):
        return {**arguments, "encoder": {FOUND: {}, **encoder, "name": copy.deepcopy(module).cpu()}}
    return dict(arguments)


def _own_by_name(kinds: Iterable[Any], taken: Iterable[str], what: str) -> dict[str, Any]:
    """Return user-defined classes, or modules as encoders, by name; refuse duplicate names and names of this library."""
    found: dict[str, Any] = {}
    taken = tuple(taken)
    for kind in kinds:
        own = type(kind) if what == "encoder" and isinstance(kind, nn.Module) else kind
        if not isinstance(own, type) or not issubclass(own, nn.Module):
            raise ValueError(f"{brief(kind)} is not a {what}; give classes derived from torch.nn.Module")
        require_own_name(own, taken, what)
        if found.setdefault(own.__name__, kind) is not kind:
            raise ValueError(f"two {what} classes are named {own.__name__}; give one of them another name")
    return found


def require_fit(expected: Mapping[str, Tensor], weights: Mapping[str, Tensor]) -> None:
    """Refuse weights that do not fit a network, naming the first that differs.

    Args:
        expected: The state dict of the network.
        weights: Name to tensor.

    Raises:
        ValueError: If a weight is missing, unexpected or has another shape.
    """
    if missing := sorted(expected.keys() - weights.keys()):
        raise ValueError(f"the weights do not fit the network: {len(missing)} are missing, first {missing[0]!r}")
    if extra := sorted(weights.keys() - expected.keys()):
        raise ValueError(f"the weights do not fit the network: {len(extra)} are unexpected, first {extra[0]!r}")
    for name, value in expected.items():
        if weights[name].shape != value.shape:
            raise ValueError(
                f"the weights do not fit the network: {name!r} is {tuple(weights[name].shape)}, not {tuple(value.shape)}"
            )
