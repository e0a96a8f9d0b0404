"""The encoders that milpath knows, one file of facts each: `configs/encoder/NAME.yaml`."""

import difflib
from functools import cache
from typing import Any

import yaml

from milpath.models.encoders.encoder_card import EncoderCard
from milpath.records import CONFIG_DIR

# Keys of a configuration that say how weights are found, not what the encoder is.
LOADING_KEYS = ("pretrained", "weights_path", "weights_dir", "download")
_NOT_AN_ENCODER = ("options", "timm", "onnx")  # where weights are, and encoders that the user names


@cache
def encoder_names() -> tuple[str, ...]:
    """Return the names of the encoders that milpath knows, in alphabetical order."""
    names = (path.stem for path in (CONFIG_DIR / "encoder").glob("*.yaml"))
    return tuple(sorted(name for name in names if name not in _NOT_AN_ENCODER))


def encoder_card(name: str) -> EncoderCard:
    """Return the card of an encoder by its name.

    Raises:
        ValueError: If milpath does not know it; the message suggests the closest name.

    Example:
        >>> encoder_card("uni2_h").embedding_dim
        1536
    """
    if name not in encoder_names():
        nearest = difflib.get_close_matches(name, encoder_names(), n=1, cutoff=0.5)
        meant = f"did you mean {nearest[0]}? " if nearest else ""
        raise ValueError(f"unknown encoder {name!r}; {meant}milpath encoders lists them")
    return EncoderCard.from_dict(_facts(name))


@cache
def _facts(name: str) -> dict[str, Any]:
    """Return the content of the file of an encoder without Hydra's own key."""
    content = yaml.safe_load((CONFIG_DIR / "encoder" / f"{name}.yaml").read_text(encoding="utf-8"))
    return {key: value for key, value in content.items() if key != "defaults"}
