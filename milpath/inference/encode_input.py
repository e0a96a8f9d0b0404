"""Whole slides as input of a network that was trained on features: cut and encoded as its training slides were."""

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from milpath.encoding.extract_features import extract_features, holds_cut_tiles
from milpath.models.card import Card
from milpath.models.encoders import open_encoder
from milpath.models.encoders.encoder_card import EncoderCard
from milpath.slides.tiling_options import TileOptions
from milpath.tiling.slide_run import TilingSummary


def encode_input(
    path: Path,
    output: Path,
    card: Card,
    *,
    weights_path: str | None = None,
    weights_dir: str | None = None,
    device: str = "auto",
    **words: Any,
) -> TilingSummary:
    """Encode slides or tiles with the encoder of a network's training features, at the same precision.

    Args:
        path: Slides or tiles.
        output: Folder of the store of features.
        card: The card of the network, which holds that of the encoder.
        weights_path: File of the encoder's weights, whose digest must be that of the training.
        weights_dir: Folder of weights of several encoders.
        device: Device of the encoder.
        words: Further arguments of `extract_features`.

    Raises:
        FileNotFoundError: If the weights are not on this machine.
        ValueError: If the card does not say which encoder it was, or the weights are others.
    """
    encoder_card = _card_of_encoder(path, card.encoder)
    options = None
    if not holds_cut_tiles(path, card.tiling.get("tile_size")):
        options = TileOptions.from_tiling(card.tiling)
    encoder = open_encoder(encoder_card, weights_path=weights_path, weights_dir=weights_dir)
    return extract_features(
        path, output, encoder, encoder.card.to_dict(), options,
        precision=encoder_card.precision, device=device, on_error="skip", **words,
    )  # fmt: skip


def _card_of_encoder(path: Path, content: Mapping[str, Any]) -> EncoderCard:
    """Return the card of the encoder; one that features of other programs have is too short to open it."""
    if "architecture" not in content:
        name = content.get("name", "an encoder that its card does not name")
        raise ValueError(
            f"the network takes features of {name}, but {path} holds none; give a folder of .h5 or .pt files, one per "
            "slide, or a bag store of features (whole slides need a network trained on features of milpath extract)"
        )
    return EncoderCard.from_dict(content)
