"""From configuration to objects: the only place that instantiates what a configuration names."""

import inspect
from collections.abc import Mapping
from typing import Any, cast

import torch
from hydra.errors import InstantiationException
from hydra.utils import instantiate
from lightning.pytorch import Callback, Trainer
from lightning.pytorch.callbacks import LearningRateMonitor
from lightning.pytorch.loggers import Logger
from omegaconf import DictConfig, OmegaConf

from milpath.command import require_finite_numbers
from milpath.data.datamodule import BagDataModule
from milpath.models.encoders.linear import LinearEncoder
from milpath.models.network import MILNetwork
from milpath.models.task import num_outputs_for
from milpath.training.classifier import AuxiliaryLoss, MILClassifier
from milpath.training.kept_memory import KeptMemory
from milpath.training.reproducibility import StepSeed

CLASS_WEIGHTS = ("none", "balanced")


def build_datamodule(config: DictConfig) -> BagDataModule:
    """Return the data module of a `data` configuration.

    The keys in the signature of `BagDataModule` say how bags are split and loaded and mean the same for every data set;
    the others are the arguments of the source that `_target_` names.
    """
    content = cast(dict[str, Any], OmegaConf.to_container(config, resolve=True, throw_on_missing=True))
    options = {name: content.pop(name) for name in _options() if name in content}
    return BagDataModule(_instantiate(content), **options)


def build_network(config: DictConfig, datamodule: BagDataModule) -> MILNetwork:
    """Return the network of a `model` configuration with as many outputs as the task has.

    An encoder of features learns their width, and the statistics of the training split, from the data: the checkpoint then
    carries its own preprocessing, and the data module leaves features as they are. An encoder of tiles whose size no
    option says (a bag store) learns it from the data as well.
    """
    arguments: dict[str, Any] = {"num_outputs": num_outputs_for(datamodule.num_classes, datamodule.task)}
    encoder = cast(dict[str, Any], OmegaConf.to_container(config.encoder, resolve=True))
    if encoder["name"] == "linear":
        encoder["num_features"] = encoder["num_features"] or datamodule.tile_shape[0]
    elif encoder.get("tile_size", 0) is None:
        encoder["tile_size"] = datamodule.tile_shape[0]
    network: MILNetwork = _instantiate(config, encoder=encoder, **arguments)
    if datamodule.statistics is not None:
        mean, std = (torch.from_numpy(values) for values in datamodule.statistics.as_pair())
        cast(LinearEncoder, network.tile_encoder.network).set_statistics(mean, std)
        datamodule.statistics = None
    return network.to(memory_format=torch.channels_last)


def build_classifier(config: DictConfig, datamodule: BagDataModule) -> MILClassifier:
    """Return the classifier of a training configuration.

    Args:
        config: Root of the `train` command.
        datamodule: The data, set up: the number of classes and their weights come from it.

    Raises:
        ValueError: If `class_weights` is unknown.
    """
    if config.class_weights not in CLASS_WEIGHTS:
        raise ValueError(f"class_weights is {config.class_weights!r}; it must be one of {', '.join(CLASS_WEIGHTS)}")
    weights = None
    if config.class_weights == "balanced":
        counts = datamodule.class_counts("train")
        weights = [sum(counts) / (len(counts) * count) if count else 0.0 for count in counts]
    network = build_network(config.model, datamodule)
    tiling, description = _tiling(datamodule), OmegaConf.to_container(config.data, resolve=True)
    encoder = network.tile_encoder
    if encoder.frozen and encoder.takes == "tiles" and datamodule.augmentation.kind == "none":
        datamodule.encode_with(encoder)
    return MILClassifier(
        network,
        class_names=datamodule.class_names,
        task=datamodule.task,
        optimizer=_optimizer(config.optimizer),
        scheduler=_instantiate(config.scheduler),
        auxiliary_loss=_auxiliary_loss(config.auxiliary_loss, datamodule.task),
        class_weights=weights,
        tiling=tiling,
        data=cast(dict[str, Any], description) | {"standardize": False},
    )


def _auxiliary_loss(config: DictConfig | None, task: str) -> AuxiliaryLoss | None:
    """Return the auxiliary loss; one that depends on the task gets that of the data, which the data alone may know."""
    known = {"task": task} if config is not None and "task" in config else {}
    loss: AuxiliaryLoss | None = _instantiate(config, **known)
    return loss


def _tiling(datamodule: BagDataModule) -> dict[str, Any]:
    """Return how slides became tiles; of tiles that came as tiles, their size is known."""
    image = len(datamodule.tile_shape) == 3
    return ({"tile_size": datamodule.tile_shape[0]} if image else {}) | datamodule.tiling


def build_trainer(config: DictConfig) -> Trainer:
    """Return the Trainer of a configuration with its callbacks and loggers."""
    callbacks = _entries(config.get("callbacks"))
    loggers = _entries(config.get("logger"))
    if not loggers:
        # It has nowhere to write to, and Lightning makes an error of that.
        callbacks = [callback for callback in callbacks if not isinstance(callback, LearningRateMonitor)]
    if trace := _instantiate(config.get("profiler")):
        callbacks.append(trace)
    callbacks += [StepSeed(config.seed), KeptMemory()]
    return cast(
        Trainer,
        _instantiate(
            config.trainer,
            callbacks=cast(list[Callback], callbacks),
            logger=cast(list[Logger], loggers) or False,
            # BagDataModule shares the bags between processes itself: Lightning's sampler repeats some of them.
            use_distributed_sampler=False,
        ),
    )


def _optimizer(config: DictConfig) -> Any:
    """Return what makes an optimizer, tried on a parameter: a value it refuses is said before the training begins."""
    require_finite_numbers(OmegaConf.create({"optimizer": config}))
    make = _instantiate(config)
    try:
        make([torch.nn.Parameter(torch.zeros(1))])
    except (TypeError, ValueError) as error:
        names = [name for name in map(str, config) if not name.startswith("_")]
        values = ", ".join(f"optimizer.{name}={config[name]}" for name in names)
        raise ValueError(f"{config._target_} does not take its values ({error}): {values}") from None
    return make


def _options() -> list[str]:
    """Return the names of the options that every data set has."""
    return [name for name in inspect.signature(BagDataModule).parameters if name != "source"]


def _entries(config: DictConfig | None) -> list[Any]:
    """Return the objects of named entries; an entry set to null is left out."""
    return [_instantiate(entry) for entry in (config or {}).values() if entry]


def _instantiate(config: DictConfig | Mapping[str, Any] | None, **arguments: Any) -> Any:
    """Instantiate, and let the error of the constructor speak for itself."""
    if not config:
        return None
    if (target := config.get("_target_")) is None:
        raise ValueError(f"a configuration entry has no _target_: {dict(config)}")
    try:
        return instantiate(config, **arguments, _convert_="all")
    except InstantiationException as error:
        if isinstance(error.__cause__, TypeError):
            raise ValueError(f"{target} does not take its arguments: {error.__cause__}") from error.__cause__
        if error.__cause__ is not None and not isinstance(error.__cause__, ImportError):
            raise error.__cause__ from None
        raise ValueError(f"{target}: {error}") from None
