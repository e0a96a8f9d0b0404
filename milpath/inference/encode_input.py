"""Whole slides as input of a network that was trained on features: cut and encoded as its training slides were."""

from collections.abc import Iterable
from pathlib import Path
from typing import Any

from torch import nn

from milpath.encoding.extract_features import extract_features, holds_cut_tiles
from milpath.models.card import Card
from milpath.models.encoders import PretrainedEncoder, open_encoder
from milpath.models.encoders.encoder_card import EncoderCard
from milpath.slides.tiling_options import TileOptions
from milpath.tiling.slide_run import TilingSummary

# Stores of features are float16 unless the card of the network says otherwise.
_DTYPE = "float16"


def open_trained_encoder(
    card: Card,
    where: str | Path,
    *,
    weights_path: str | None = None,
    weights_dir: str | None = None,
    encoders: Iterable[type[nn.Module]] = (),
) -> PretrainedEncoder:
    """Return the encoder of a network's training features, with the same weights.

    Args:
        card: The card of the network, which holds that of the encoder.
        where: What is to be encoded, for the message.
        weights_path: File of the encoder's weights, whose digest must be that of the training.
        weights_dir: Folder of weights of several encoders.
        encoders: The user's own classes, which a card names.

    Raises:
        FileNotFoundError: If the weights are not on this machine.
        ValueError: If the card does not say which encoder it was, or the weights are others.
    """
    content = {key: value for key, value in card.encoder.items() if key != "dtype"}
    if "architecture" not in content:
        # Features of other programs have a card that is too short to open their encoder.
        name = content.get("name", "an encoder that its card does not name")
        raise ValueError(
            f"the network takes features of {name}, but {where} holds none; give a folder of .h5 or .pt files, one per "
            "slide, or a bag store of features (whole slides need a network trained on features of milpath extract)"
        )
    encoder_card = EncoderCard.from_dict(content)
    try:
        return open_encoder(encoder_card, weights_path=weights_path, weights_dir=weights_dir, encoders=encoders)
    except (FileNotFoundError, ValueError) as error:
        # The option has this name beside a checkpoint; only `milpath encoders check` and `extract` download.
        text = str(error).replace("weights_path=", "encoder_weights_path=")
        text = text.replace("give download=true", f"run milpath encoders check {encoder_card.name} download=true")
        raise type(error)(f"the network takes features of {encoder_card.name}: {text}") from None


def encode_input(
    path: Path, output: Path, card: Card, encoder: nn.Module, *, device: str = "auto", **words: Any
) -> TilingSummary:
    """Encode slides or tiles as the training slides of a network were: same tiles, precision and type of features.

    Args:
        path: Slides or tiles.
        output: Folder of the store of features.
        card: The card of the network.
        encoder: The encoder of its training features.
        device: Device of the encoder.
        words: Further arguments of `extract_features`.

    Raises:
        ValueError: If the card does not say how slides were cut.
    """
    facts = {key: value for key, value in card.encoder.items() if key != "dtype"}
    options = None
    if not holds_cut_tiles(path, card.tiling.get("tile_size")):
        options = TileOptions.from_tiling(card.tiling)
    return extract_features(
        path, output, encoder, facts, options, precision=str(facts["precision"]),
        dtype=str(card.encoder.get("dtype", _DTYPE)), device=device, on_error="skip", **words,
    )  # fmt: skip
