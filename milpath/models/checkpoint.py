"""A file that needs nothing else known: weights, and a card that says what they are."""

import os
import pickle
import warnings
from collections.abc import Mapping
from dataclasses import asdict, dataclass, field, fields, replace
from inspect import signature
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

FORMAT_VERSION = 1
_PREFIX = "network."


@dataclass(frozen=True)
class Card:
    """What a checkpoint says of its network; plain values alone.

    Attributes:
        network: `{"name": class in milpath.models, "arguments": {...}}`.
        class_names: Names of the classes in the order of their numbers.
        task: "binary", "nominal" or "ordinal".
        threshold: Operating point of a binary task, chosen on validation.
        temperature: Divides the logits of predictions, fitted on validation.
        defer_below: A bag is referred to a person when its largest class probability lies below; 0 refers none.
        tiling: How slides become tiles: method, num_tiles, tile_size, level, microns_per_pixel.
        data: The configuration of the data of the run.
    """

    network: Mapping[str, Any]
    class_names: tuple[str, ...]
    task: str
    threshold: float = 0.5
    temperature: float = 1.0
    defer_below: float = 0.0
    tiling: Mapping[str, Any] = field(default_factory=dict)
    data: Mapping[str, Any] = field(default_factory=dict)


def describe_network(network: nn.Module) -> dict[str, Any]:
    """Return name and arguments from which the network can be built again.

    Example:
        >>> from milpath.models import AttentionMIL
        >>> describe_network(AttentionMIL(encoder={"name": "linear", "num_features": 3}))["arguments"]["gated"]
        False
    """
    names = signature(type(network)).parameters
    return {"name": type(network).__name__, "arguments": {name: getattr(network, name) for name in names}}


def card_to_dict(card: Card) -> dict[str, Any]:
    """Return the card as it lies in a file."""
    return {"format_version": FORMAT_VERSION} | asdict(card) | {"class_names": list(card.class_names)}


def card_from_dict(content: Mapping[str, Any]) -> Card:
    """Return the card that lies in a file.

    Raises:
        ValueError: If the format is of another version or a field is missing.
    """
    version = content.get("format_version")
    if version != FORMAT_VERSION:
        raise ValueError(f"the card has format {version!r}, this milpath reads {FORMAT_VERSION}; update milpath")
    if missing := [name for name in ("network", "class_names", "task") if name not in content]:
        raise ValueError(f"the card lacks {', '.join(missing)}")
    known = {item.name for item in fields(Card)}
    values = {name: value for name, value in content.items() if name in known}
    return Card(**values | {"class_names": tuple(content["class_names"])})


def save_network(network: nn.Module, path: str | Path, card: Card | None = None, **changes: Any) -> None:
    """Write weights and card; the file is there whole or not at all.

    Args:
        network: A network of `milpath.models`.
        path: Where to write, usually `*.ckpt` or `*.pt`.
        card: What to say of it; None describes a network of two classes, negative and positive.
        **changes: Fields of `Card` to set.
    """
    if card is None:
        card = Card(network={}, class_names=("negative", "positive"), task="binary")
    card = replace(card, network=describe_network(network), **changes)
    weights = {_PREFIX + name: value.detach().cpu() for name, value in network.state_dict().items()}
    write_checkpoint({"milpath": card_to_dict(card), "state_dict": weights}, Path(path))


def update_card(path: str | Path, **changes: Any) -> Card:
    """Set fields of the card in a checkpoint, everything else stays as it is."""
    content = read_checkpoint(path)
    card = replace(card_from_dict(content["milpath"]), **changes)
    write_checkpoint(content | {"milpath": card_to_dict(card)}, Path(path))
    return card


def load_card(path: str | Path) -> Card:
    """Return what a checkpoint says of its network.

    Raises:
        FileNotFoundError: If there is no such file.
        ValueError: If it is not a checkpoint of milpath.
    """
    try:
        return card_from_dict(read_checkpoint(path)["milpath"])
    except (ValueError, TypeError) as error:
        raise ValueError(f"{path}: {error}") from None


def load_network(path: str | Path) -> nn.Module:
    """Return the network of a checkpoint in evaluation mode, on the CPU.

    Nothing in the file is executed and nothing is downloaded: tensors and plain values are read, and the class is looked up
    by its name among the networks of this library.

    Args:
        path: `best.ckpt` or `last.ckpt` of a run, or a file written by `save_network`.

    Raises:
        FileNotFoundError: If there is no such file.
        ValueError: If it is no checkpoint of milpath, names an unknown network, or its weights do not fit.
    """
    content = read_checkpoint(path)
    card = load_card(path)
    weights = {
        name.removeprefix(_PREFIX): value for name, value in content["state_dict"].items() if name.startswith(_PREFIX)
    }
    try:
        network = build_described(card.network)
        network.load_state_dict(weights)
    except RuntimeError as error:
        raise ValueError(f"{path}: the weights do not fit the network: {' '.join(str(error).split())[:300]}") from None
    except ValueError as error:
        raise ValueError(f"{path}: {error}") from None
    return network.eval()


def build_described(description: Mapping[str, Any]) -> nn.Module:
    """Return a new network from its description, without any pretrained weights.

    Raises:
        ValueError: If the name is not in `milpath.models.__all__` or the arguments do not fit.
    """
    from milpath import models

    name = description.get("name")
    networks = {item: getattr(models, item) for item in models.__all__}
    networks = {
        item: found for item, found in networks.items() if isinstance(found, type) and issubclass(found, nn.Module)
    }
    if name not in networks:
        raise ValueError(f"unknown network {name!r}; this milpath has {', '.join(networks)}")
    arguments = dict(description.get("arguments", {}))
    if isinstance(encoder := arguments.get("encoder"), Mapping):
        # The weights come from the file: neither a download nor a path of another machine may be asked for.
        without = {key: value for key, value in encoder.items() if key not in ("pretrained", "weights_path")}
        arguments["encoder"] = without
    try:
        network: nn.Module = networks[name](**arguments)
    except TypeError as error:
        raise ValueError(f"network {name}: {error}") from None
    return network


def read_checkpoint(path: str | Path) -> dict[str, Any]:
    """Read a checkpoint with tensors and plain values alone.

    Raises:
        FileNotFoundError: If there is no such file.
        ValueError: If it is not a checkpoint of milpath: truncated, of another program, or holding code.
    """
    if not Path(path).is_file():
        raise FileNotFoundError(f"no checkpoint at {path}; give the best.ckpt in the checkpoints folder of a run")
    try:
        with warnings.catch_warnings():
            # torch wonders aloud about files of other programs; the error below says what they are.
            warnings.simplefilter("ignore", UserWarning)
            content = torch.load(path, map_location="cpu", weights_only=True)
    except (pickle.UnpicklingError, RuntimeError, EOFError, OSError, ValueError, KeyError, AttributeError) as error:
        reason = "holds code, which is never run" if "Unsupported" in str(error) else "cannot be read"
        raise ValueError(f"{path} {reason}: it is no checkpoint of milpath, or it is truncated") from None
    if not isinstance(content, dict) or not isinstance(content.get("milpath"), Mapping):
        raise ValueError(f"{path} is a file of torch, but no checkpoint of milpath: it has no card")
    if not isinstance(content.get("state_dict"), Mapping) or not all(
        isinstance(value, Tensor) for value in content["state_dict"].values()
    ):
        raise ValueError(f"{path} has a card but no weights")
    return content


def write_checkpoint(content: Mapping[str, Any], path: Path) -> None:
    """Write under a temporary name and rename when whole."""
    if not path.parent.is_dir():
        raise FileNotFoundError(f"{path.parent} is no folder; make it first")
    temporary = path.with_name(f".{path.name}.{os.getpid()}")
    try:
        torch.save(dict(content), temporary)
        temporary.replace(path)
    finally:
        temporary.unlink(missing_ok=True)
