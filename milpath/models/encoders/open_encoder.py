"""Opening of a pretrained encoder by its name, its card or an entry of a configuration."""

from collections.abc import Mapping
from typing import Any

from milpath.models.encoders.encoder_card import EncoderCard
from milpath.models.encoders.encoder_files import LOADING_KEYS, encoder_card
from milpath.models.encoders.pretrained_encoder import PretrainedEncoder


def open_encoder(
    encoder: str | EncoderCard | Mapping[str, Any],
    weights_path: str | None = None,
    download: bool = False,
    weights_dir: str | None = None,
) -> PretrainedEncoder:
    """Return a pretrained encoder with its weights, frozen and in evaluation mode, on the CPU.

    Its `forward` takes tiles `(tiles, 3, height, width)` in [0, 1] and returns features `(tiles, embedding_dim)`; resizing
    and normalisation are part of it. `card` holds its description with the digest of its weights.

    Args:
        encoder: Name of an encoder (`milpath encoders` lists them), a card, or an entry of a configuration: the values of a
            card and where weights are looked for.
        weights_path: File of the weights, or a folder with it.
        download: Allow the Hugging Face hub.
        weights_dir: Folder of weights of several encoders.

    Raises:
        FileNotFoundError: If the weights are not on this machine; the message says where to put them.
        ImportError: If a package of the extra `backbones` is missing.
        ValueError: If the encoder is unknown, or the weights do not fit it.

    Example:
        >>> encoder = open_encoder("efficientnet_lite0")
        >>> encoder.embedding_dim, encoder.card.tile_size
        (1280, 224)
    """
    if isinstance(encoder, str):
        encoder = encoder_card(encoder)
    loading: dict[str, Any] = {"weights_path": weights_path, "download": download, "weights_dir": weights_dir}
    if isinstance(encoder, EncoderCard):
        spec = encoder.to_dict() | loading
    else:
        spec = dict(encoder) | {key: value for key, value in loading.items() if value}
    network = from_spec(spec | {"pretrained": True})
    return network.eval().requires_grad_(False)


def from_spec(spec: Mapping[str, Any]) -> PretrainedEncoder:
    """Return the encoder of a flat mapping: the values of a card, or only its name, and where weights are looked for.

    Raises:
        ValueError: If a value is unknown, missing or out of its range.
    """
    loading = {key: value for key, value in spec.items() if key in LOADING_KEYS}
    facts = {key: value for key, value in spec.items() if key not in LOADING_KEYS}
    if "architecture" not in facts:
        facts = encoder_card(str(facts["name"])).to_dict() | facts
    return PretrainedEncoder(EncoderCard.from_dict(facts), **loading)
