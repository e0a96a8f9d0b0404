"""From the configuration of a model to its network, fitted to the data."""

from collections.abc import Mapping
from typing import Any, cast

import torch
from omegaconf import DictConfig, OmegaConf
from torch import nn

from milpath.data.datamodule import BagDataModule
from milpath.runs.instantiation import instantiate_entry, object_named
from milpath.targets import target_named


def build_network(config: DictConfig, datamodule: BagDataModule) -> nn.Module:
    """Return the network of a `model` configuration with as many outputs as the task has.

    An encoder of features learns their width, and the statistics of the training split, from the data: the checkpoint then
    carries its own preprocessing, and the data module leaves features as they are. An encoder of tiles whose size no
    option says (a bag store) learns it from the data as well. The same holds for a network of the user's own without an
    encoder. A `_target_` in the encoder becomes a class here; the network keeps its bare name.

    Raises:
        ValueError: If network or encoder do not take their arguments, or `data.standardize` asks for an encoder that keeps
            statistics and this one does not.
    """
    outputs = target_named(datamodule.task).num_outputs(datamodule.num_classes)
    content = cast(dict[str, Any], OmegaConf.to_container(config, resolve=True))
    arguments = _known_from_data(content, datamodule) | {"num_outputs": outputs}
    encoder = content.pop("encoder", None)
    if isinstance(encoder, dict):
        arguments["encoder"] = encoder = encoder | _known_from_data(encoder, datamodule)
        if (target := encoder.pop("_target_", None)) is not None:
            encoder["name"] = object_named(target, "model.encoder")
    make = instantiate_entry(content | {"_partial_": True})
    try:
        network: nn.Module = make(**arguments)
    except TypeError as error:
        raise ValueError(f"{content['_target_']} does not take its arguments: {error}") from error
    if datamodule.statistics is not None:
        tile_encoder = getattr(network, "tile_encoder", None)
        keep = getattr(getattr(tile_encoder, "network", network), "set_statistics", None)
        if keep is None:
            name = getattr(tile_encoder, "name", type(network).__name__)
            raise ValueError(f"data.standardize=true needs {name} to have set_statistics(mean, std); set it to false")
        keep(*(torch.from_numpy(values) for values in datamodule.statistics.as_pair()))
        datamodule.statistics = None
    return network.to(memory_format=torch.channels_last)


def _known_from_data(options: Mapping[str, Any], datamodule: BagDataModule) -> dict[str, Any]:
    """Return the sizes of the data for those options of a network or encoder that are null."""
    return {
        name: datamodule.tile_shape[0]
        for name in ("num_features", "tile_size")
        if name in options and options[name] is None
    }
