"""The pretrained encoder of an `encoder` configuration."""

from typing import Any, cast

from omegaconf import DictConfig, OmegaConf

from milpath.models.encoders import PretrainedEncoder, open_encoder


def build_encoder(config: DictConfig) -> PretrainedEncoder:
    """Return the encoder of an `encoder` configuration with its weights, frozen and in evaluation mode, on the CPU.

    Raises:
        FileNotFoundError: If the weights are not on this machine; the message says where to put them.
        ImportError: If a package of the extra `backbones` is missing.
        ValueError: If a value is unknown, or the weights do not fit the encoder.
    """
    return open_encoder(cast(dict[str, Any], OmegaConf.to_container(config, resolve=True)))
