"""Self-contained checkpoints: the weights of a network and a card that describes it."""

from collections.abc import Iterable, Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any, overload

import torch
from torch import Tensor, nn

from milpath.models.card import FORMAT_VERSION, Card, card_from_dict, card_to_dict, require_outputs, require_sound
from milpath.models.finite import require_finite_weights
from milpath.models.network import MILNetwork
from milpath.models.network_description import build_described, describe_network, require_fit
from milpath.models.torch_file import load_plain, require_plain_tensors
from milpath.models.weights_digest import require_sealed, require_whole_archive, sealed
from milpath.records.atomic_files import atomic_path

__all__ = [
    "FORMAT_VERSION",
    "RUN_KEY",
    "Card",
    "card_from_dict",
    "card_of",
    "card_to_dict",
    "describe_network",
    "load_card",
    "load_network",
    "load_weights",
    "open_checkpoint",
    "read_archive",
    "read_checkpoint",
    "save_network",
    "update_card",
    "write_checkpoint",
]

_PREFIX = "network."
# Key of the identity of the run in its checkpoints.
RUN_KEY = "milpath_run"


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
    require_sound(card)
    require_outputs(card, getattr(network, "num_outputs", None))
    weights = {_PREFIX + name: value.detach().cpu() for name, value in network.state_dict().items()}
    write_checkpoint({"milpath": card_to_dict(card), "state_dict": weights}, Path(path))


def update_card(path: str | Path, **changes: Any) -> Card:
    """Set fields of the card in a checkpoint; everything else stays unchanged."""
    content = read_checkpoint(path)
    require_sound(card := replace(card_of(content, path), **changes))
    write_checkpoint(content | {"milpath": card_to_dict(card)}, Path(path))
    return card


def load_card(path: str | Path) -> Card:
    """Return the card of a checkpoint.

    Raises:
        FileNotFoundError: If there is no such file.
        ValueError: If it is not a milpath checkpoint.
    """
    return card_of(read_checkpoint(path), path)


@overload
def load_network(path: str | Path, *, encoders: Iterable[type[nn.Module] | nn.Module] = ()) -> MILNetwork: ...


@overload
def load_network(
    path: str | Path, networks: Iterable[type[nn.Module]], encoders: Iterable[type[nn.Module] | nn.Module] = ()
) -> nn.Module: ...


def load_network(
    path: str | Path, networks: Iterable[type[nn.Module]] = (), encoders: Iterable[type[nn.Module] | nn.Module] = ()
) -> nn.Module:
    """Return the network of a checkpoint in evaluation mode, on the CPU.

    Nothing in the file is executed, imported or downloaded: tensors and plain values are read, and the class is looked
    up by its name among the networks of this library and the given classes.

    Args:
        path: `best.ckpt` or `last.ckpt` of a run, or a file written by `save_network`.
        networks: Your own network classes: `load_network(path, networks=[MyNetwork])`.
        encoders: Your own encoder classes, or modules built like the trained ones, of which a copy gets the weights.

    Raises:
        FileNotFoundError: If there is no such file.
        ValueError: If it is not a milpath checkpoint, names a class that is neither known nor given, or its weights or
            classes do not fit that class or are not finite; or if a given class has the name of one of this library.
    """
    return open_checkpoint(path, networks, encoders)[0]


def open_checkpoint(
    path: str | Path, networks: Iterable[type[nn.Module]] = (), encoders: Iterable[type[nn.Module] | nn.Module] = ()
) -> tuple[nn.Module, Card]:
    """Return the network of a checkpoint and its card, from one reading; arguments and errors as in `load_network`."""
    content = read_checkpoint(path)
    card = card_of(content, path)
    try:
        weights = _network_weights(content)
        network = build_described(card.network, weights, networks, encoders)
        require_outputs(card, getattr(network, "num_outputs", None))
    except ValueError as error:
        raise ValueError(f"{path}: {error}") from None
    return network.eval(), card


def load_weights(network: nn.Module, path: str | Path) -> Card:
    """Load the weights of a checkpoint into a network of the same architecture.

    Returns:
        The card of the checkpoint.

    Raises:
        FileNotFoundError: If there is no such file.
        ValueError: If it is not a milpath checkpoint, or its weights do not fit the network or are not finite.
    """
    content = read_checkpoint(path)
    card = card_of(content, path)
    try:
        weights = _network_weights(content)
        require_fit(network.state_dict(), weights)
    except ValueError as error:
        raise ValueError(f"{path}: {error}") from None
    network.load_state_dict(weights)
    return card


def _network_weights(content: Mapping[str, Any]) -> dict[str, Tensor]:
    """Return the weights of the network in a checkpoint; refuse weights that are not finite."""
    weights = {
        name.removeprefix(_PREFIX): value for name, value in content["state_dict"].items() if name.startswith(_PREFIX)
    }
    require_finite_weights(weights)
    return weights


def card_of(content: Mapping[str, Any], path: str | Path) -> Card:
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
        isinstance(name, str) and isinstance(value, Tensor) for name, value in content["state_dict"].items()
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
        OSError: If the system does not let it be read.
    """
    if not Path(path).is_file():
        raise FileNotFoundError(f"no checkpoint at {path}; give the best.ckpt in the checkpoints folder of a run")
    require_whole_archive(path)
    try:
        content = load_plain(path)
    except OSError:
        raise
    except Exception as error:  # a damaged file can raise anything
        reason = "contains code, which is never run" if "Unsupported" in str(error) else "cannot be read"
        raise ValueError(f"{path} {reason}: it is not a milpath checkpoint, or it is truncated") from None
    try:
        require_plain_tensors(content)
    except ValueError as error:
        raise ValueError(f"{path} is not a milpath checkpoint: {error}") from None
    return content


def write_checkpoint(content: Mapping[str, Any], path: Path, *, seal: bool = True) -> None:
    """Write a checkpoint with the digests of its parts, atomically.

    Args:
        content: The parts of the checkpoint; without a card under "milpath" there are no digests.
        path: The file.
        seal: Compute the digests; False if `content` was sealed and not changed since.

    Raises:
        FileNotFoundError: If the folder does not exist.
        OSError: If the disk is full or the folder cannot be written to; an existing file at `path` stays unchanged.
    """
    with atomic_path(path) as temporary:
        try:
            with temporary.open("wb") as file:
                torch.save(sealed(content) if seal and "milpath" in content else dict(content), file)
        except RuntimeError as error:
            # On a full disk, and when a signal ends the writing, torch reports unexpected positions; the reason is in the
            # exception's context.
            reason = error.__context__
            if isinstance(reason, OSError) or (reason is not None and not isinstance(reason, Exception)):
                raise reason from None
            raise
