"""The card of a pretrained encoder: what it is, what it takes and what it returns, in plain values.

A card comes from `configs/encoder/NAME.yaml`, and travels with the features that the encoder made and with the networks that
were trained on them. Such files may come from other people, so every value is checked and none has a side effect.
"""

import dataclasses
import math
import re
import types
import typing
from collections.abc import Mapping
from dataclasses import dataclass, fields
from typing import Any

from milpath.records.plain_values import brief, require_plain

LIBRARIES = ("timm", "conch", "onnx", "own")
OUTPUTS = ("class_token", "class_and_mean", "pooled")
INTERPOLATIONS = ("bilinear", "bicubic")
PRECISIONS = ("32-true", "16-mixed", "bf16-mixed")
OTHER_TILE_SIZES = ("refuse", "resize", "any")
LAYOUTS = ("timm", "transformers", "conch", "conch_v1_5", "ctranspath", "in_order")

# Arguments of an architecture that a card may set. Anything else could name a file or an address to load.
_LARGEST = {
    "img_size": 2048,
    "patch_size": 64,
    "embed_dim": 16_384,
    "depth": 128,
    "num_heads": 256,
    "mlp_ratio": 64,
    "reg_tokens": 64,
    "init_values": 10,
    "norm_eps": 1,
}
_FLAGS = ("no_embed_class", "dynamic_img_size", "qkv_bias", "class_token", "always_partition", "strict_img_size")
_NAMES = {
    "mlp_layer": ("SwiGLUPacked",),
    "act_layer": ("SiLU", "GELU"),
    "global_pool": ("token", "avg", ""),
    "embed_layer": ("ConvStem",),
}
_MAX_TEXT = 500
_NAME = re.compile(r"\w[\w.-]*(/\w[\w.-]*)?", re.ASCII)  # becomes part of a path


@dataclass(frozen=True)
class EncoderCard:
    """A pretrained encoder of tiles, described in plain values.

    Attributes:
        name: Name of the encoder, as in `encoder=NAME`.
        library: Where the architecture is defined: "timm", "conch" (timm's with an attentional pooler), "onnx" (a file) or
            "own" (the user's class).
        architecture: Its name in the library.
        arguments: Arguments of the architecture; only sizes, flags and layers that are known here.
        layout: How the tensors of the published file are named.
        repository: Repository of the weights on the Hugging Face hub, `None` if they are elsewhere.
        weights_files: File names of the weights in the repository, the preferred first.
        tile_size: Side of the tiles that the encoder was trained on, in pixels.
        microns_per_pixel: Resolution that it was trained at; `None` if it was trained on other images than slides.
        other_tile_sizes: What happens to tiles of another size: "refuse", "resize" (as its authors do, with
            `interpolation`) or "any" (the architecture takes them as they are).
        mean: Mean of each channel that it expects, in [0, 1].
        std: Standard deviation of each channel that it expects, > 0.
        interpolation: "bilinear" or "bicubic".
        output: Features of a tile: "class_token", "class_and_mean" (class token, then the mean of the patch tokens) or
            "pooled" (the pooling of the architecture).
        embedding_dim: Number of features.
        num_parameters: Number of parameters of the network without classification layer; `None` if not known.
        precision: Precision that its authors recommend: "32-true", "16-mixed" or "bf16-mixed".
        licence: Licence of the weights.
        gated: Whether the weights are given on request only.
        access: Address of the page of the weights, where access is granted.
        paper: Address of the paper.
        weights_sha256: Digest of the tensors in the network after loading, independent of the file's format; `None` before.
        stain_normalisation: How the colours of a slide are normalised first: "none" or a method of `milpath.models.stains`.
        stain_target: The target of the normalisation, in plain values; `None` without one.
    """

    name: str
    library: str
    architecture: str
    arguments: Mapping[str, Any]
    layout: str
    repository: str | None
    weights_files: tuple[str, ...]
    tile_size: int
    microns_per_pixel: float | None
    other_tile_sizes: str
    mean: tuple[float, ...]
    std: tuple[float, ...]
    interpolation: str
    output: str
    embedding_dim: int
    num_parameters: int | None
    precision: str
    licence: str
    gated: bool
    access: str
    paper: str
    weights_sha256: str | None = None
    stain_normalisation: str = "none"
    stain_target: Mapping[str, Any] | None = None

    def to_dict(self) -> dict[str, Any]:
        """Return the card as plain values, to be stored in a file."""
        values = dataclasses.asdict(self)
        if self.stain_normalisation == "none":  # as in cards of encoders before there was a normalisation
            del values["stain_normalisation"], values["stain_target"]
        return {name: list(value) if isinstance(value, tuple) else value for name, value in values.items()}

    @classmethod
    def from_dict(cls, content: Any) -> "EncoderCard":
        """Return the card of plain values, such as those stored in a file.

        Raises:
            ValueError: If a field is missing, unknown, of another type or out of its range.

        Example:
            >>> EncoderCard.from_dict({"name": "uni"})
            Traceback (most recent call last):
            ...
            ValueError: the card of the encoder lacks library, architecture and 18 more
        """
        where = "the card of the encoder"
        if not isinstance(content, Mapping):
            raise ValueError(f"{where} must be a mapping, not {brief(content)}")
        values = require_plain(dict(content), where)
        if missing := [
            item.name for item in fields(cls) if item.name not in values and item.default is dataclasses.MISSING
        ]:
            rest = f" and {len(missing) - 2} more" if len(missing) > 2 else ""
            raise ValueError(f"{where} lacks {', '.join(missing[:2])}{rest}")
        if unknown := sorted(values.keys() - {item.name for item in fields(cls)}):
            raise ValueError(f"{where} has the unknown field {brief(unknown[0])}; update milpath, or remove the field")
        hints = typing.get_type_hints(cls)
        card = cls(**{name: _typed(name, value, hints[name]) for name, value in values.items()})
        _require_sound(card)
        return card

    def describe(self) -> str:
        """Return the encoder in one line, for messages that compare two.

        Example:
            >>> from milpath.models.encoders import encoder_card
            >>> encoder_card("uni2_h").describe()
            'uni2_h (1,536 features of tiles of 224 px at 0.5 microns per pixel)'
        """
        microns = f" at {self.microns_per_pixel:g} microns per pixel" if self.microns_per_pixel is not None else ""
        weights = f", weights {self.weights_sha256[:12]}" if self.weights_sha256 is not None else ""
        stains = "" if self.stain_normalisation == "none" else f", stains normalised by {self.stain_normalisation}"
        return (
            f"{self.name} ({self.embedding_dim:,} features of tiles of {self.tile_size} px{microns}{weights}{stains})"
        )


def _typed(name: str, value: Any, hint: Any) -> Any:
    """Return the value of a field in its type."""
    if isinstance(hint, types.UnionType):
        if value is None:
            return None
        hint = next(item for item in typing.get_args(hint) if item is not type(None))
    if hint is float and type(value) in (int, float):
        return float(value)
    if typing.get_origin(hint) is tuple and isinstance(value, list) and len(value) <= 8:
        return tuple(_typed(name, item, typing.get_args(hint)[0]) for item in value)
    if typing.get_origin(hint) is Mapping and isinstance(value, dict):
        return value
    if type(value) is not hint or (isinstance(value, str) and len(value) > _MAX_TEXT):
        raise ValueError(f"{name} of an encoder cannot be {brief(value)}")
    return value


def _require_sound(card: EncoderCard) -> None:
    """Refuse a card with values out of their range."""
    for name in ("name", "repository"):
        if (value := getattr(card, name)) is not None and not _NAME.fullmatch(value):
            raise ValueError(f"{name} of the encoder must be letters, digits and ._-, not {brief(value)}")
    for name, known in (
        ("library", LIBRARIES), ("output", OUTPUTS), ("interpolation", INTERPOLATIONS), ("precision", PRECISIONS),
        ("other_tile_sizes", OTHER_TILE_SIZES), ("layout", LAYOUTS),
    ):  # fmt: skip
        if getattr(card, name) not in known:
            raise ValueError(
                f"{name} of the encoder must be one of {', '.join(known)}, not {brief(getattr(card, name))}"
            )
    if (card.stain_normalisation == "none") != (card.stain_target is None):
        raise ValueError(
            f"stain_normalisation={brief(card.stain_normalisation)} of the encoder and its stain_target do not fit: both or "
            "neither must be given"
        )
    if card.num_parameters is not None and not 0 <= card.num_parameters <= 10**11:
        raise ValueError(f"num_parameters of the encoder must be at most 10^11, not {card.num_parameters:,}")
    for name, largest in (("tile_size", 4096), ("embedding_dim", 65_536)):
        if not 0 < getattr(card, name) <= largest:
            raise ValueError(f"{name} of the encoder must be in [1, {largest:,}], not {getattr(card, name):,}")
    if card.microns_per_pixel is not None and not 0 < card.microns_per_pixel <= 100:
        raise ValueError(f"microns_per_pixel of the encoder must be in (0, 100], not {card.microns_per_pixel}")
    if len(card.mean) != 3 or len(card.std) != 3 or not all(0 <= value <= 1 for value in card.mean):
        raise ValueError(
            "mean and std of the encoder must be three numbers each, the mean in [0, 1], not "
            f"{list(card.mean)} and {list(card.std)}"
        )
    if not all(0 < value <= 1 and math.isfinite(value) for value in card.std):
        raise ValueError(f"std of the encoder must be greater than 0 and at most 1, not {list(card.std)}")
    if card.library != "own":  # the arguments of a user's class are checked by the class
        for name, value in card.arguments.items():
            _require_argument(name, value)


def _require_argument(name: str, value: Any) -> None:
    """Refuse an argument of an architecture that is unknown or out of its range."""
    if name in _FLAGS:
        sound = type(value) is bool
    elif name in _NAMES:
        sound = value in _NAMES[name]
    elif name in _LARGEST:
        sound = type(value) in (int, float) and 0 < value <= _LARGEST[name]
    else:
        known = ", ".join(sorted({*_FLAGS, *_NAMES, *_LARGEST}))
        raise ValueError(f"arguments of the encoder cannot have {brief(name)}; known are {known}")
    if not sound:
        raise ValueError(f"arguments.{name} of the encoder cannot be {brief(value)}")
