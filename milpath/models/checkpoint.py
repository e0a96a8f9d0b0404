"""Self-contained checkpoints: the weights of a network and a card that describes it."""

import math
import pickle
import warnings
from collections.abc import Iterable, Mapping
from dataclasses import asdict, dataclass, field, fields, replace
from pathlib import Path
from typing import Any, overload

import torch
from torch import Tensor, nn

from milpath.models.finite import require_finite_weights
from milpath.models.network import MILNetwork
from milpath.models.network_description import build_described, describe_network, require_fit
from milpath.models.weights_digest import require_sealed, require_whole_archive, sealed
from milpath.records.atomic_files import atomic_path
from milpath.records.plain_values import brief, require_plain
from milpath.targets import target_named, target_names
from milpath.targets.target import require_class_names

__all__ = [
    "FORMAT_VERSION",
    "Card",
    "card_from_dict",
    "card_to_dict",
    "describe_network",
    "load_card",
    "load_network",
    "load_weights",
    "read_archive",
    "read_checkpoint",
    "save_network",
    "update_card",
    "write_checkpoint",
]

FORMAT_VERSION = 1
_PREFIX = "network."


@dataclass(frozen=True)
class Card:
    """The description of a network in its checkpoint; plain values only.

    Attributes:
        network: `{"name": class in milpath.models or of the user's own, "arguments": {...}}`.
        class_names: Names of the classes in the order of their numbers.
        task: Name of the target: "binary", "nominal", "ordinal" or one of the user's own.
        threshold: Operating point of a binary task, chosen on validation.
        temperature: Divides the logits of predictions, fitted on validation.
        defer_below: A bag is referred to a person when its largest class probability lies below; 0 refers none.
        tiling: How slides become tiles: method, num_tiles, tile_size, level, microns_per_pixel.
        data: The configuration of the data of the run; of its keys, `_target_` alone begins with an underscore.
    """

    network: Mapping[str, Any]
    class_names: tuple[str, ...]
    task: str
    threshold: float = 0.5
    temperature: float = 1.0
    defer_below: float = 0.0
    tiling: Mapping[str, Any] = field(default_factory=dict)
    data: Mapping[str, Any] = field(default_factory=dict)


def card_to_dict(card: Card) -> dict[str, Any]:
    """Return the card as stored in a file."""
    return {"format_version": FORMAT_VERSION} | asdict(card) | {"class_names": list(card.class_names)}


def card_from_dict(content: Mapping[str, Any]) -> Card:
    """Return the card stored in a file.

    Raises:
        ValueError: If the format has another version, a field is missing or invalid, or a value is not plain: a card is
            untrusted input, and none of its values may have a side effect.
    """
    version = content.get("format_version")
    if version != FORMAT_VERSION:
        raise ValueError(
            f"the card has format {brief(version)}, this version of milpath reads {FORMAT_VERSION}; update milpath"
        )
    if missing := [name for name in ("network", "class_names", "task") if name not in content]:
        raise ValueError(f"the card lacks {', '.join(missing)}")
    known = {item.name for item in fields(Card)}
    values = {name: _plain_field(name, value) for name, value in content.items() if name in known}
    names = values["class_names"]
    if not isinstance(names, list) or not all(isinstance(name, str) for name in names):
        raise ValueError(f"class_names of the card must be a list of names, not {brief(names)}")
    card = Card(**values | {"class_names": tuple(names)})
    _require_sound(card)
    return card


def _plain_field(name: str, value: Any) -> Any:
    """Return a copy of a field; `_target_` names the data set, no other key may start with an underscore."""
    return require_plain(value, f"{name} of the card", allowed=("_target_",) if name == "data" else ())


def _require_sound(card: Card) -> None:
    """Refuse a card with invalid values."""
    for name in ("network", "tiling", "data"):
        if not isinstance(getattr(card, name), Mapping):
            raise ValueError(f"{name} of the card must be a mapping, not {brief(getattr(card, name))}")
        _plain_field(name, dict(getattr(card, name)))
    if card.task not in target_names():
        raise ValueError(
            f"task {brief(card.task)} of the card is not one of {', '.join(target_names())}; register a target of your own "
            "first: register_target(MyTarget()) in Python, parts=[my_parts.MyTarget] in a command"
        )
    for name, lowest, highest in (("threshold", 0, 1), ("temperature", 0, math.inf), ("defer_below", 0, 1)):
        value = getattr(card, name)
        if (
            not isinstance(value, int | float)
            or not (lowest <= value <= highest and math.isfinite(value))
            or (name == "temperature" and not value)
        ):
            raise ValueError(f"{name} of the card must be a number in [{lowest}, {highest}], not {brief(value)}")
    require_class_names(card.class_names)
    arguments = card.network.get("arguments")
    _require_outputs(card, arguments.get("num_outputs") if isinstance(arguments, Mapping) else None)


def _require_outputs(card: Card, found: Any) -> None:
    """Refuse a number of outputs that does not fit the classes; `None` means not known yet."""
    needed = target_named(card.task).num_outputs(len(card.class_names))
    if found is not None and found != needed:
        raise ValueError(
            f"the network has {brief(found)} outputs, but a {card.task} task of {len(card.class_names)} classes needs "
            f"{needed}; give class_names and task"
        )


def save_network(network: nn.Module, path: str | Path, card: Card | None = None, **changes: Any) -> None:
    """Write weights and card atomically.

    Args:
        network: A network of `milpath.models`.
        path: Where to write, usually `*.ckpt` or `*.pt`.
        card: Its description; `None` describes a network with two classes, negative and positive.
        **changes: Fields of `Card` to set.

    Raises:
        FileNotFoundError: If the folder does not exist.
        ValueError: If the network does not have the number of outputs that the task needs for its classes.
    """
    if card is None:
        card = Card(network={}, class_names=("negative", "positive"), task="binary")
    card = replace(card, network=describe_network(network), **changes)
    _require_sound(card)
    _require_outputs(card, getattr(network, "num_outputs", None))
    weights = {_PREFIX + name: value.detach().cpu() for name, value in network.state_dict().items()}
    write_checkpoint({"milpath": card_to_dict(card), "state_dict": weights}, Path(path))


def update_card(path: str | Path, **changes: Any) -> Card:
    """Set fields of the card in a checkpoint; everything else stays unchanged."""
    content = read_checkpoint(path)
    _require_sound(card := replace(_card_of(content, path), **changes))
    write_checkpoint(content | {"milpath": card_to_dict(card)}, Path(path))
    return card


def load_card(path: str | Path) -> Card:
    """Return the card of a checkpoint.

    Raises:
        FileNotFoundError: If there is no such file.
        ValueError: If it is not a milpath checkpoint.
    """
    return _card_of(read_checkpoint(path), path)


@overload
def load_network(path: str | Path, *, encoders: Iterable[type[nn.Module]] = ()) -> MILNetwork: ...


@overload
def load_network(
    path: str | Path, networks: Iterable[type[nn.Module]], encoders: Iterable[type[nn.Module]] = ()
) -> nn.Module: ...


def load_network(
    path: str | Path, networks: Iterable[type[nn.Module]] = (), encoders: Iterable[type[nn.Module]] = ()
) -> nn.Module:
    """Return the network of a checkpoint in evaluation mode, on the CPU.

    Nothing in the file is executed, imported or downloaded: tensors and plain values are read, and the class is looked up by
    its name among the networks of this library and the classes that the caller gives.

    Args:
        path: `best.ckpt` or `last.ckpt` of a run, or a file written by `save_network`.
        networks: Network classes of your own: `load_network(path, networks=[MyNetwork])`.
        encoders: Encoder classes of your own.

    Raises:
        FileNotFoundError: If there is no such file.
        ValueError: If it is not a checkpoint of milpath, names a class that is neither known nor given, or its weights or
            classes do not fit it or are not finite; or if a given class has the name of one of this library.
    """
    content = read_checkpoint(path)
    card = _card_of(content, path)
    try:
        weights = _network_weights(content)
        network = build_described(card.network, weights, networks, encoders)
        _require_outputs(card, getattr(network, "num_outputs", None))
    except ValueError as error:
        raise ValueError(f"{path}: {error}") from None
    return network.eval()


def load_weights(network: nn.Module, path: str | Path) -> None:
    """Give the weights of a checkpoint to a network alike the one it was written of, or refuse those that do not fit."""
    content = read_checkpoint(path)
    try:
        weights = _network_weights(content)
        require_fit(network.state_dict(), weights)
    except ValueError as error:
        raise ValueError(f"{path}: {error}") from None
    network.load_state_dict(weights)


def _network_weights(content: Mapping[str, Any]) -> dict[str, Tensor]:
    """Return the weights of the network in a checkpoint, refused where one is not finite."""
    weights = {
        name.removeprefix(_PREFIX): value for name, value in content["state_dict"].items() if name.startswith(_PREFIX)
    }
    require_finite_weights(weights)
    return weights


def _card_of(content: Mapping[str, Any], path: str | Path) -> Card:
    """Return the card of a checkpoint that was read; errors name the file."""
    try:
        return card_from_dict(content["milpath"])
    except ValueError as error:
        raise ValueError(f"{path}: {error}") from None


def read_checkpoint(path: str | Path) -> dict[str, Any]:
    """Read a checkpoint, tensors and plain values only, and verify its checksums and digests.

    Raises:
        FileNotFoundError: If there is no such file.
        ValueError: If it is not a milpath checkpoint (truncated, written by another program, or containing code), or
            was changed after it was written.
    """
    content = read_archive(path)
    if not isinstance(content, dict) or not isinstance(content.get("milpath"), Mapping):
        raise ValueError(f"{path} is a torch file but not a milpath checkpoint: it has no card")
    if not isinstance(content.get("state_dict"), Mapping) or not all(
        isinstance(value, Tensor) for value in content["state_dict"].values()
    ):
        raise ValueError(f"{path} has a card but no weights")
    if sum(value.nbytes for value in content["state_dict"].values()) > Path(path).stat().st_size:
        # A tensor can be an expanded view of one stored number; trained weights are always stored in full.
        raise ValueError(f"{path} is smaller than the weights it claims to hold; it was not written by milpath")
    require_sealed(content, path)
    return content


def read_archive(path: str | Path) -> Any:
    """Read a `torch.save` file, tensors and plain values only, and verify the checksum of every member.

    Raises:
        FileNotFoundError: If there is no such file.
        ValueError: If it is another kind of file, truncated or damaged, or contains code.
    """
    if not Path(path).is_file():
        raise FileNotFoundError(f"no checkpoint at {path}; give the best.ckpt in the checkpoints folder of a run")
    require_whole_archive(path)
    try:
        with warnings.catch_warnings():
            # torch warns about files of other programs; the error below is clearer.
            warnings.simplefilter("ignore", UserWarning)
            content = torch.load(path, map_location="cpu", weights_only=True)
    except (pickle.UnpicklingError, RuntimeError, EOFError, OSError, ValueError, KeyError, AttributeError) as error:
        reason = "contains code, which is never run" if "Unsupported" in str(error) else "cannot be read"
        raise ValueError(f"{path} {reason}: it is not a milpath checkpoint, or it is truncated") from None
    return content


def write_checkpoint(content: Mapping[str, Any], path: Path) -> None:
    """Write a checkpoint with the digests of its parts, atomically.

    Raises:
        FileNotFoundError: If the folder does not exist.
        OSError: If the disk is full or the folder cannot be written to; an existing file at `path` stays unchanged.
    """
    with atomic_path(path) as temporary:
        try:
            with temporary.open("wb") as file:
                torch.save(sealed(content), file)
        except RuntimeError as error:
            # On a full disk torch reports unexpected positions; the reason is in the exception's context.
            if isinstance(error.__context__, OSError):
                raise error.__context__ from None
            raise
