"""Whole slides as input of a network that was trained on features: cut and encoded as its training slides were."""

from collections.abc import Iterable
from pathlib import Path
from typing import Any

from torch import nn

from milpath.encoding.extract_features import extract_features, holds_cut_tiles
from milpath.models.card import Card
from milpath.models.encoders.trained_encoder import (
    describes_encoder,
    encoder_facts,
    features_dtype,
    open_trained_encoder,
)
from milpath.slides.tiling_options import TileOptions
from milpath.tiling.slide_run import TilingSummary


def require_described_encoder(card: Card, path: Path) -> None:
    """Refuse slides for a network whose card has too little about its encoder, as that of other programs' features.

    Raises:
        ValueError: With what to give instead.
    """
    if not describes_encoder(card.encoder):
        name = card.encoder.get("name", "an encoder that its card does not name")
        raise ValueError(
            f"the network takes features of {name}, but {path} holds none; give a folder of .h5 or .pt files, one per "
            "slide, or a bag store of features (whole slides need a network trained on features of milpath extract)"
        )


def open_and_encode(
    path: Path,
    output: Path,
    card: Card,
    *,
    weights_path: str | None = None,
    weights_dir: str | None = None,
    encoders: Iterable[type[nn.Module]] = (),
    **words: Any,
) -> TilingSummary:
    """Open the encoder that the card of a network describes, and encode slides or tiles with it.

    Args:
        path: Slides or tiles.
        output: Folder of the store of features.
        card: The card of the network.
        weights_path: File of the encoder's weights; `None` looks for them.
        weights_dir: Folder of weights of several encoders.
        encoders: The user's own classes, which a card names.
        words: Further arguments of `encode_input`.

    Raises:
        FileNotFoundError: If the weights are not on this machine.
        ValueError: If the card says too little about the encoder or how slides were cut.
    """
    encoder = encoder_of_input(card, path, weights_path=weights_path, weights_dir=weights_dir, encoders=encoders)
    return encode_input(path, output, card, encoder, **words)


def encoder_of_input(
    card: Card,
    path: Path,
    *,
    weights_path: str | None = None,
    weights_dir: str | None = None,
    encoders: Iterable[type[nn.Module]] = (),
) -> nn.Module:
    """Return the encoder that the card of a network describes; the arguments are those of `open_and_encode`."""
    require_described_encoder(card, path)
    return open_trained_encoder(card.encoder, weights_path=weights_path, weights_dir=weights_dir, encoders=encoders)


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
    facts, options = encoder_facts(card.encoder), None
    if not holds_cut_tiles(path, card.tiling.get("tile_size")):
        options = TileOptions.from_tiling(card.tiling)
    return extract_features(
        path, output, encoder, facts, options, precision=str(facts["precision"]),
        dtype=features_dtype(card.encoder), device=device, on_error="skip", **words,
    )  # fmt: skip
