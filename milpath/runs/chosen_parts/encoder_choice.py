"""The encoder follows the data: tiles need an encoder of tiles, features a feature encoder."""

import logging
from typing import Any, cast

from hydra.errors import HydraException
from hydra.utils import get_object
from omegaconf import DictConfig, OmegaConf, open_dict

from milpath.config.roots import CONFIG_DIR
from milpath.models.encoders import ENCODERS
from milpath.runs.instantiation import object_named

_log = logging.getLogger(__name__)
# The encoder of every model configuration unless another is chosen, and the one that stands in for it.
_DEFAULT, _OF_FEATURES = "tile_cnn", "linear"
# Set from the data, or how an encoder is computed rather than which it is.
_OF_ANY = {"name", "tile_size", "frozen", "activation_checkpointing", "tile_micro_batch"}


def refuse_unfit_encoder(config: DictConfig) -> None:
    """Refuse an encoder that cannot take the data of a training configuration, before any data are read.

    Args:
        config: Root of the `train` command.

    Raises:
        ValueError: If the data are known to be features and the encoder takes tiles.
    """
    try:
        source = get_object(str(config.data.get("_target_")))
    except (HydraException, ValueError, ImportError, AttributeError):
        return  # reported when it is instantiated
    if getattr(source, "gives", None) == "features":
        _check(config.model.get("encoder"), "features")


def let_encoder_follow(config: DictConfig, tile_shape: tuple[int, ...]) -> None:
    """Replace the default encoder of tiles by `linear` in a `model` configuration if the data are features.

    Args:
        config: The `model` group; changed in place.
        tile_shape: `(height, width, channels)` of a tile, or `(features,)`.

    Raises:
        ValueError: If another encoder was chosen that cannot take the data.
    """
    encoder = config.get("encoder")
    if not _check(encoder, "features" if len(tile_shape) == 1 else "tiles"):
        return
    chosen, defaults = _options(_OF_FEATURES), _options(_DEFAULT)
    # Options that any encoder has, and those of the feature encoder that only it has.
    kept = [name for name in chosen if name in encoder and (name in _OF_ANY or name not in defaults)]
    chosen |= {name: encoder[name] for name in kept if name != "name"}
    with open_dict(config):
        config.encoder = chosen
    _log.info("the data are features of %d values: the encoder is %s", tile_shape[0], _OF_FEATURES)


def _check(encoder: Any, kind: str) -> bool:
    """Return whether the encoder has to be replaced; refuse one that cannot take this kind of data."""
    takes = _takes(encoder)
    if takes in (None, kind):
        return False
    name = encoder if isinstance(encoder, str) else encoder.get("_target_") or encoder.get("name")
    if kind == "tiles":
        raise ValueError(
            f"the data are tiles, but the encoder {name} takes features; leave out model/encoder={name}, or encode the "
            "tiles: milpath extract slides=STORE encoder=NAME output=FEATURES"
        )
    way_out = f"add model/encoder={_OF_FEATURES} (or leave model/encoder out)"
    if name != _DEFAULT:
        raise ValueError(f"the data are features, but the encoder {name} takes tiles; {way_out}")
    defaults = _options(_DEFAULT)
    if changed := [key for key in defaults if key not in _OF_ANY and encoder.get(key) != defaults[key]]:
        raise ValueError(
            f"the data are features, but model.encoder.{changed[0]}={encoder.get(changed[0])} is an option of {_DEFAULT}, "
            f"which takes tiles; {way_out}"
        )
    return True


def _options(name: str) -> dict[str, Any]:
    """Return the options of an encoder of this library as they are unless changed; none is resolved."""
    content = OmegaConf.load(CONFIG_DIR / "model" / "encoder" / f"{name}.yaml")
    return cast(dict[str, Any], OmegaConf.to_container(content, resolve=False))


def _takes(encoder: Any) -> str | None:
    """Return "tiles" or "features"; `None` if there is no encoder, or it is not known before it is built."""
    if not isinstance(encoder, DictConfig):
        return None
    if (target := encoder.get("_target_")) is not None:
        return getattr(object_named(target, "model.encoder"), "takes", None)
    return getattr(ENCODERS.get(str(encoder.get("name"))), "takes", "tiles")
