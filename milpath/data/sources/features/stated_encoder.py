"""The encoder of features that the user states, for files of other programs, which hold no card of it."""

import json
import logging

from milpath.data.sources.features.feature_origin import FeatureOrigin
from milpath.data.store.encoder_match import same_name
from milpath.models.encoders.encoder_files import encoder_card
from milpath.slides.tiling_options import TileOptions

_log = logging.getLogger(__name__)


def stated_origin(origin: FeatureOrigin, encoder: str, where: str) -> FeatureOrigin:
    """Return the origin of features with the card of the encoder that the user states.

    If the files say the size and resolution of tiles, it also says how to cut slides: all tiles with tissue, by the tissue
    detection of milpath, since files do not say how other programs found theirs. The weights are not known.

    Args:
        origin: What the files say.
        encoder: Name of an encoder.
        where: The files, for messages.

    Raises:
        ValueError: If the encoder is unknown, or the files say another one or another number of features.
    """
    if origin.encoder is not None and not same_name(origin.encoder, encoder):
        raise ValueError(
            f"encoder={encoder} was stated, but the files in {where} say {origin.encoder}; state that one, or none"
        )
    if origin.embedding_dim is not None:
        require_width(origin.embedding_dim, encoder, where)
    if origin.card is not None:
        return origin  # says more than its name
    tiling = None
    if origin.tile_size is not None and origin.microns_per_pixel is not None:
        options = TileOptions(
            method="tissue", num_tiles=None, tile_size=origin.tile_size, microns_per_pixel=origin.microns_per_pixel,
            overlap=origin.overlap or 0,
        )  # fmt: skip
        tiling = options.to_tiling()
    how = "which say no size and resolution of tiles: slides cannot be cut for them"
    if tiling is not None:
        how = (
            "slides will be cut into all tiles with tissue that milpath finds, which are not exactly those of the files"
        )
    _log.info("encoder=%s is stated for the features in %s, %s", encoder, where, how)
    card = encoder_card(encoder).to_dict() | {"dtype": "float32"}
    return origin._replace(
        card=json.dumps(card, sort_keys=True), tiling=None if tiling is None else json.dumps(tiling, sort_keys=True)
    )


def require_width(width: int, encoder: str, where: str) -> None:
    """Refuse features of another width than an encoder gives.

    Raises:
        ValueError: With both widths.
    """
    if width != (expected := encoder_card(encoder).embedding_dim):
        raise ValueError(
            f"encoder={encoder} was stated, which gives {expected} features, but the files in {where} have {width}; state "
            "the encoder that made them, or none"
        )
