"""The network of a `model` configuration, with sizes and statistics taken from the data."""

from collections.abc import Mapping
from typing import Any, cast

import torch
from omegaconf import DictConfig, OmegaConf
from torch import nn

from milpath.data.datamodule import BagDataModule
from milpath.runs.chosen_parts.encoder_choice import let_encoder_follow
from milpath.runs.chosen_parts.stain_choice import with_stain_target
from milpath.runs.instantiation import instantiate_entry, object_named


def build_network(config: DictConfig, datamodule: BagDataModule) -> nn.Module:
    """Return the network of a `model` configuration with the number of outputs the task needs.

    Features get a feature encoder unless one is chosen (see `let_encoder_follow`). A feature encoder takes its input
    width and the statistics of the training split from the data: the checkpoint then holds its own standardization,
    and the data module leaves features unchanged. A tile encoder without a configured tile size (as with a bag store)
    takes it from the data as well, and one with a stain normalisation its target. The same holds for the user's own
    network without an encoder. A `_target_` in the encoder is resolved to a class here; the network stores its bare name.

    Raises:
        ValueError: If network or encoder do not accept their arguments, or `data.standardize` needs an encoder that stores
            statistics and this one does not.
    """
    let_encoder_follow(config, datamodule.tile_shape)
    outputs = datamodule.fitted_target.num_outputs(len(datamodule.class_names))
    content = cast(dict[str, Any], OmegaConf.to_container(config, resolve=True))
    arguments = _known_from_data(content, datamodule) | {"num_outputs": outputs}
    if content.get("attention_per_target"):
        names = datamodule.class_names
        arguments["outputs_per_target"] = own = list(datamodule.fitted_target.outputs_per_target(len(names)))
        if len(own) == 1:
            raise ValueError(
                f"model.attention_per_target=true needs several targets (target=several or target=multilabel), and a "
                f"{datamodule.task} task is one; leave it out"
            )
    encoder = content.pop("encoder", None)
    if isinstance(encoder, dict):
        arguments["encoder"] = encoder = encoder | _known_from_data(encoder, datamodule)
        if (target := encoder.pop("_target_", None)) is not None:
            encoder["name"] = object_named(target, "model.encoder")
        arguments["encoder"] = with_stain_target(encoder, datamodule)
    make = instantiate_entry(content | {"_partial_": True})
    try:
        network: nn.Module = make(**arguments)
    except TypeError as error:
        raise ValueError(f"{content['_target_']} does not accept its arguments: {error}") from error
    if datamodule.statistics is not None:
        tile_encoder = getattr(network, "tile_encoder", None)
        keep = getattr(getattr(tile_encoder, "network", network), "set_statistics", None)
        if keep is None:
            name = getattr(tile_encoder, "name", type(network).__name__)
            raise ValueError(
                f"data.standardize=true needs set_statistics(mean, std), which {name} does not have; set it to false"
            )
        if getattr(network, "weights_path", None) is not None:
            raise ValueError(
                f"the weights in {network.weights_path} were trained on features as they are; set data.standardize=false"
            )
        keep(*(torch.from_numpy(values) for values in datamodule.statistics.as_pair()))
        datamodule.statistics = None
    return network.to(memory_format=torch.channels_last)


def _known_from_data(options: Mapping[str, Any], datamodule: BagDataModule) -> dict[str, Any]:
    """Return the sizes of the data for the options of a network or encoder that are null."""
    return {
        name: datamodule.tile_shape[0]
        for name in ("num_features", "tile_size")
        if name in options and options[name] is None
    }
