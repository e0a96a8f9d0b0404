"""Opening of a pretrained encoder by its name, its card or an entry of a configuration."""

from collections.abc import Iterable, Mapping
from typing import Any

from torch import nn

from milpath.models.encoders.encoder_card import EncoderCard
from milpath.models.encoders.encoder_files import LOADING_KEYS, encoder_card
from milpath.models.encoders.own_encoder import facts_of_timm, find_own, onnx_module, own_module
from milpath.models.encoders.pretrained_encoder import PretrainedEncoder
from milpath.models.weights_digest import digest_of
from milpath.records.digests import sha256_of_file


def open_encoder(
    encoder: str | type[nn.Module] | EncoderCard | Mapping[str, Any],
    weights_path: str | None = None,
    download: bool = False,
    weights_dir: str | None = None,
    encoders: Iterable[type[nn.Module]] = (),
) -> PretrainedEncoder:
    """Return a pretrained encoder with its weights, frozen and in evaluation mode, on the CPU.

    Its `forward` takes tiles `(tiles, 3, height, width)` in [0, 1] and returns features `(tiles, embedding_dim)`; resizing
    and normalisation are part of it. `card` holds its description with the digest of its weights.

    Args:
        encoder: Name of an encoder (`milpath encoders` lists them), "timm/ARCHITECTURE", your own class, a card, or an
            entry of a configuration: the values of a card and where weights are looked for. A card with a digest of weights
            opens only with these weights.
        weights_path: File of the weights, or a folder with it.
        download: Allow the Hugging Face hub.
        weights_dir: Folder of weights of several encoders.
        encoders: Your own classes, which a card names.

    Raises:
        FileNotFoundError: If the weights are not on this machine; the message says where to put them.
        ImportError: If a package of the extra `backbones` or `onnx` is missing.
        ValueError: If the encoder is unknown, or the weights do not fit it.

    Example:
        >>> encoder = open_encoder("efficientnet_lite0")
        >>> encoder.embedding_dim, encoder.card.tile_size
        (1280, 224)
    """
    spec: dict[str, Any] = {"name": encoder} if isinstance(encoder, str | type) else {}
    if isinstance(encoder, EncoderCard):
        spec = encoder.to_dict()
    elif isinstance(encoder, Mapping):
        spec = dict(encoder)
    given = {"weights_path": weights_path, "download": download, "weights_dir": weights_dir}
    spec |= {key: value for key, value in given.items() if value}
    return from_spec(spec | {"pretrained": True}, encoders).eval().requires_grad_(False)


def facts_of(spec: Mapping[str, Any]) -> dict[str, Any]:
    """Return what is known of the encoder of a flat mapping before its weights are read.

    Args:
        spec: The values of a card, or only the name of an encoder, and where weights are looked for.

    Returns:
        The values of its card without those that only the opened encoder knows: the digest of its weights and, for the
        user's own class or an ONNX file, the number of features.

    Raises:
        ImportError: If the name is an architecture of timm and timm is missing.
        ValueError: If the name is unknown.
    """
    facts = {key: value for key, value in spec.items() if key not in LOADING_KEYS}
    name = facts.get("name")
    if "architecture" in facts or "library" in facts or not isinstance(name, str):
        return facts
    return (facts_of_timm(name) if name.startswith("timm/") else encoder_card(name).to_dict()) | facts


def from_spec(spec: Mapping[str, Any], encoders: Iterable[type[nn.Module]] = ()) -> PretrainedEncoder:
    """Return the encoder of a flat mapping: the values of a card, or only its name, and where weights are looked for.

    Raises:
        ValueError: If a value is unknown, missing or out of its range.
    """
    loading = {key: value for key, value in spec.items() if key in LOADING_KEYS}
    facts, path = facts_of(spec), loading.get("weights_path")
    kind = facts.get("name")
    if facts.get("library") == "own":
        kind = find_own(EncoderCard.from_dict(facts), encoders)
        facts = {key: value for key, value in facts.items() if key not in ("embedding_dim", "num_parameters")}
    if isinstance(kind, type):
        del facts["name"]
        network, facts = own_module(kind, facts, path)
        return _around(network, facts, digest_of(network.state_dict()))
    if facts.get("library") == "onnx":
        network, facts = onnx_module(facts, path)
        return _around(network, facts, sha256_of_file(str(path)))
    return PretrainedEncoder(EncoderCard.from_dict(facts), **loading)


def _around(network: nn.Module, facts: Mapping[str, Any], digest: str) -> PretrainedEncoder:
    """Return the encoder of a network that has its weights."""
    return PretrainedEncoder(EncoderCard.from_dict(facts), network=network, digest=digest)
