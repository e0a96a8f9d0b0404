"""Objects from a configuration; nothing else calls `hydra.utils.instantiate`."""

import inspect
from collections.abc import Mapping
from typing import Any, cast

import torch
from hydra.errors import InstantiationException
from hydra.utils import instantiate
from lightning.pytorch import Callback, Trainer
from lightning.pytorch.callbacks import LearningRateMonitor
from lightning.pytorch.loggers import Logger
from lightning.pytorch.plugins.io import TorchCheckpointIO
from omegaconf import DictConfig, OmegaConf

import milpath.data
from milpath.config.command import require_finite_numbers
from milpath.data import SOURCES
from milpath.data.datamodule import BagDataModule
from milpath.models.encoders.linear import LinearEncoder
from milpath.models.network import MILNetwork
from milpath.records.error_text import reason_of
from milpath.records.plain_values import brief, require_plain
from milpath.targets import target_named
from milpath.targets.target import require_class_names
from milpath.training.checkpoint_files import AtomicCheckpointIO
from milpath.training.classifier import AuxiliaryLoss, MILClassifier
from milpath.training.memory_callback import KeptMemory
from milpath.training.step_seed import StepSeed
from milpath.training.stop_on_signal import StopOnSignal

CLASS_WEIGHTS = ("none", "balanced")


def build_datamodule(config: DictConfig, **changes: Any) -> BagDataModule:
    """Return the data module of a `data` configuration.

    Keys in the signature of `BagDataModule` configure how bags are split and loaded, and mean the same for every data set.
    All others are arguments of the source that `_target_` names.

    Args:
        config: The `data` group.
        **changes: Options of `BagDataModule` that replace those of the configuration, passed unchanged.
    """
    content = cast(dict[str, Any], OmegaConf.to_container(config, resolve=True, throw_on_missing=True)) | changes
    options = {name: content.pop(name) for name in _options() if name in content}
    return BagDataModule(_instantiate(content), **options)


def build_described_datamodule(data: Mapping[str, Any], **changes: Any) -> BagDataModule:
    """Return the data module described by the card of a checkpoint.

    A checkpoint is untrusted. Its data set is looked up by name in `milpath.data.SOURCES` and called with plain values.
    Hydra, which would call whatever a nested `_target_` names, is not involved, and no interpolation is resolved.

    Args:
        data: Field `data` of a card.
        **changes: Options of `BagDataModule` that depend on this machine, such as `stores_dir`, where stores are written.

    Raises:
        ValueError: If the name is not a data set of milpath, a value is not plain, or the data set rejects the values.
    """
    content = require_plain(dict(data), "data of the card", allowed=("_target_",)) | changes
    target = content.pop("_target_", None)
    if not isinstance(target, str) or target not in {f"milpath.data.{name}" for name in SOURCES}:
        raise ValueError(f"names no data set of milpath (found {brief(target)}); give data=NAME")
    options = {name: content.pop(name) for name in _options() if name in content}
    name = target.rpartition(".")[2]
    try:
        return BagDataModule(getattr(milpath.data, name)(**content), **options)
    except (TypeError, AttributeError, ArithmeticError, LookupError) as error:
        # Values of a wrong type can raise any of these.
        raise ValueError(f"describes data that {name} does not accept ({reason_of(error)}); give data=NAME") from None


def build_network(config: DictConfig, datamodule: BagDataModule) -> MILNetwork:
    """Return the network of a `model` configuration with the number of outputs the task needs.

    A feature encoder takes its input width and the statistics of the training split from the data: the checkpoint then
    holds its own standardization, and the data module leaves features unchanged. A tile encoder without a configured tile
    size (as with a bag store) takes it from the data as well.
    """
    arguments: dict[str, Any] = {"num_outputs": target_named(datamodule.task).num_outputs(datamodule.num_classes)}
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
        datamodule: The data, after `setup`; the number of classes and their weights come from it.

    Raises:
        ValueError: If `class_weights` is unknown.
    """
    if config.class_weights not in CLASS_WEIGHTS:
        raise ValueError(f"class_weights is {config.class_weights!r}; it must be one of {', '.join(CLASS_WEIGHTS)}")
    weights = None
    if config.class_weights == "balanced":
        counts = datamodule.class_counts("train")
        weights = [sum(counts) / (len(counts) * count) if count else 0.0 for count in counts]
    require_class_names(datamodule.class_names)
    network = build_network(config.model, datamodule)
    tiling, description = _tiling(datamodule), _describe_data(config.data)
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
        data=description,
    )


def _describe_data(config: DictConfig) -> dict[str, Any]:
    """Return the data as stored in a card; empty for a data set that plain values cannot describe."""
    description = cast(dict[str, Any], OmegaConf.to_container(config, resolve=True)) | {"standardize": False}
    try:
        require_plain(description, "data", allowed=("_target_",))
    except ValueError:
        return {}
    return description


def _auxiliary_loss(config: DictConfig | None, task: str) -> AuxiliaryLoss | None:
    """Return the auxiliary loss; one with an argument `task` gets the task of the data."""
    known = {"task": task} if config is not None and "task" in config else {}
    loss: AuxiliaryLoss | None = _instantiate(config, **known)
    return loss


def _tiling(datamodule: BagDataModule) -> dict[str, Any]:
    """Return how slides were tiled; for data sets of ready-made tiles, only the tile size."""
    image = len(datamodule.tile_shape) == 3
    return ({"tile_size": datamodule.tile_shape[0]} if image else {}) | datamodule.tiling


def build_trainer(config: DictConfig) -> Trainer:
    """Return the Trainer of a configuration with its callbacks and loggers."""
    callbacks = _entries(config.get("callbacks"))
    loggers = _entries(config.get("logger"))
    if not loggers:
        # Lightning raises an error if this callback has no logger.
        callbacks = [callback for callback in callbacks if not isinstance(callback, LearningRateMonitor)]
    if trace := _instantiate(config.get("profiler")):
        callbacks.append(trace)
    callbacks += [StepSeed(config.seed), KeptMemory(), StopOnSignal()]
    trainer = cast(
        Trainer,
        _instantiate(
            config.trainer,
            callbacks=cast(list[Callback], callbacks),
            logger=cast(list[Logger], loggers) or False,
            # BagDataModule distributes the bags itself, because Lightning's sampler repeats some of them.
            use_distributed_sampler=False,
        ),
    )
    if type(trainer.strategy.checkpoint_io) is TorchCheckpointIO:
        # For every strategy, including one given as an object.
        trainer.strategy.checkpoint_io = AtomicCheckpointIO()
    return trainer


def _optimizer(config: DictConfig) -> Any:
    """Return the optimizer's factory after trying it on one parameter, so that bad values fail before training."""
    require_finite_numbers(OmegaConf.create({"optimizer": config}))
    make = _instantiate(config)
    try:
        make([torch.nn.Parameter(torch.zeros(1))])
    except (TypeError, ValueError) as error:
        names = [name for name in map(str, config) if not name.startswith("_")]
        values = ", ".join(f"optimizer.{name}={config[name]}" for name in names)
        raise ValueError(f"{config._target_} rejects its values ({error}): {values}") from None
    return make


def _options() -> list[str]:
    """Return the names of the options shared by every data set."""
    return [name for name in inspect.signature(BagDataModule).parameters if name != "source"]


def _entries(config: DictConfig | None) -> list[Any]:
    """Return the objects of named entries; entries set to null are skipped."""
    return [_instantiate(entry) for entry in (config or {}).values() if entry]


def _instantiate(config: DictConfig | Mapping[str, Any] | None, **arguments: Any) -> Any:
    """Instantiate, and raise the constructor's own error instead of Hydra's."""
    if not config:
        return None
    if (target := config.get("_target_")) is None:
        raise ValueError(f"a configuration entry has no _target_: {dict(config)}")
    try:
        return instantiate(config, **arguments, _convert_="all")
    except InstantiationException as error:
        if isinstance(error.__cause__, TypeError):
            raise ValueError(f"{target} does not accept its arguments: {error.__cause__}") from error.__cause__
        if error.__cause__ is not None and not isinstance(error.__cause__, ImportError):
            raise error.__cause__ from None
        raise ValueError(f"{target}: {error}") from None
