"""Objects from a configuration: data and classifier."""

import inspect
from collections.abc import Callable, Iterable, Mapping
from functools import partial
from typing import Any, cast

import torch
from omegaconf import DictConfig, OmegaConf
from torch.optim import Optimizer

import milpath.data
from milpath.config.command import require_finite_numbers
from milpath.data import SOURCES
from milpath.data.datamodule import BagDataModule
from milpath.data.store.encoder_match import encoder_of
from milpath.data.store.resolution_match import trained_resolution
from milpath.metrics.weighted_metrics import use_own_metrics
from milpath.models.encoders import TileEncoder
from milpath.models.network import MILNetwork
from milpath.records.error_text import reason_of
from milpath.records.plain_values import brief, require_plain
from milpath.runs.chosen_parts.build_network import build_network
from milpath.runs.familiar_bags import require_familiarity
from milpath.runs.fitted_sets import require_sets
from milpath.runs.instantiation import instantiate_entry, object_named
from milpath.runs.patient_results import require_patients
from milpath.runs.slides_as_labels import take_slides_for_labels
from milpath.targets import Target
from milpath.targets.aggregation import require_aggregate
from milpath.targets.target import require_class_names
from milpath.training.classifier import AuxiliaryLoss, MILClassifier

CLASS_WEIGHTS = ("none", "balanced")
# By this attribute torch says that an optimizer divides gradients by the factor of mixed precision in its step.
_UNSCALES = "_step_supports_amp_scaling"
# Lightning also takes the short names.
_MIXED = ("16-mixed", "16", "bf16-mixed", "bf16")


def build_training_data(config: DictConfig) -> BagDataModule:
    """Return the data module of a training configuration, after registering the user's own target and metrics.

    Raises:
        ValueError: If the target is not the one in `data.task`, or the name of a target or metric is taken.
    """
    use_metrics_of(config)
    target = instantiate_entry(config.get("target"))
    if target is None:
        return build_datamodule(config.data)
    if not isinstance(target, Target):
        raise ValueError(f"target: {config.target._target_} is not a milpath.targets.Target; derive the class from it")
    if config.data.get("task") not in (None, target.name):
        raise ValueError(f"data.task={config.data.task} differs from the target {target.name}; remove data.task")
    return build_datamodule(config.data, task=target)


def use_metrics_of(config: DictConfig) -> None:
    """Use the user's own metrics of a root configuration in this process, or none if it has none.

    An entry names a function of `EvaluatedBags`, or a class whose instances are called with them; other keys are arguments.

    Raises:
        ValueError: If an entry does not name such a function, or its name is taken.
    """
    use_own_metrics({str(name): _metric(str(name), entry) for name, entry in (config.get("metrics") or {}).items()})


def _metric(name: str, entry: Any) -> Any:
    """Return the function of an entry in `metrics`."""
    if not isinstance(entry, DictConfig) or "_target_" not in entry:
        raise ValueError(f"metrics.{name} has no _target_; give metrics.{name}._target_=my_parts.my_metric")
    is_class = isinstance(object_named(entry._target_, f"metrics.{name}"), type)
    content = cast(dict[str, Any], OmegaConf.to_container(entry, resolve=True))
    function = instantiate_entry(content | {"_partial_": not is_class})
    if not callable(function):
        raise ValueError(f"metrics.{name}: {entry._target_} has no __call__; give a function of outcomes")
    return function


def build_datamodule(config: DictConfig, **changes: Any) -> BagDataModule:
    """Return the data module of a `data` configuration.

    Keys in the signature of `BagDataModule` configure how bags are split and loaded, and mean the same for every data set.
    All others are arguments of the source that `_target_` names.

    Args:
        config: The `data` group.
        **changes: Options of `BagDataModule` that replace those of the configuration, passed unchanged.
    """
    take_slides_for_labels(config)
    content = cast(dict[str, Any], OmegaConf.to_container(config, resolve=True, throw_on_missing=True)) | changes
    options = {name: content.pop(name) for name in _options() if name in content}
    return BagDataModule(instantiate_entry(content), **options)


def build_described_datamodule(data: Mapping[str, Any], sources: Iterable[type] = (), **changes: Any) -> BagDataModule:
    """Return the data module described by the card of a checkpoint.

    A checkpoint is untrusted. Its data set is looked up by name in `milpath.data.SOURCES` and among the classes given by
    the user, and called with plain values. Hydra, which would call whatever a nested `_target_` names, is not involved,
    and no interpolation is resolved.

    Args:
        data: Field `data` of a card.
        sources: The user's own data sets.
        **changes: Options of `BagDataModule` that depend on this machine, such as `stores_dir`, where stores are written.

    Raises:
        ValueError: If the name is not one of these data sets, a value is not plain, or the data set rejects the values.
    """
    content = require_plain(dict(data), "data of the card", allowed=("_target_",)) | changes
    target = content.pop("_target_", None)
    known = {f"{source.__module__}.{source.__qualname__}": source for source in sources}
    known |= {f"milpath.data.{name}": getattr(milpath.data, name) for name in SOURCES if str(target).endswith(name)}
    if not isinstance(target, str) or target not in known:
        raise ValueError(
            f"names no data set of milpath (found {brief(target)}); give data=NAME, with --config-dir DIR if it "
            "is your own"
        )
    options = {name: content.pop(name) for name in _options() if name in content}
    name = target.rpartition(".")[2]
    try:
        return BagDataModule(known[target](**content), **options)
    except (TypeError, AttributeError, ArithmeticError, LookupError) as error:
        # Values of a wrong type can raise any of these.
        raise ValueError(f"describes data that {name} does not accept ({reason_of(error)}); give data=NAME") from None


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
    if not datamodule.fitted_target.has_classes:
        _refuse_options_of_classes(config, datamodule.fitted_target)
    require_sets(config, datamodule)
    require_familiarity(config)
    if config.class_weights == "balanced":
        counts = datamodule.class_counts("train")
        weights = [sum(counts) / (len(counts) * count) if count else 0.0 for count in counts]
    require_class_names(datamodule.class_names)
    network = build_network(config.model, datamodule)
    auxiliary_loss = _auxiliary_loss(config.auxiliary_loss, datamodule.task, network)
    if auxiliary_loss is not None and not isinstance(network, MILNetwork):
        raise ValueError(
            f"auxiliary_loss needs a MILNetwork, but {type(network).__name__} is not one; set auxiliary_loss=none"
        )
    require_aggregate(datamodule.aggregate, datamodule.fitted_target, len(datamodule.class_names))
    require_patients(datamodule)
    tiling, description = _tiling(datamodule), _describe_data(config.data)
    if description and config.get("target"):
        description["task"] = datamodule.task
    if description and datamodule.label_column is not None:
        description["label_column"] = datamodule.label_column
    encoder = getattr(network, "tile_encoder", None)  # the user's own network may have none
    copies, unchanged = datamodule.augmented_copies, datamodule.augmentation.kind == "none"
    if isinstance(encoder, TileEncoder) and encoder.frozen and encoder.takes == "tiles":
        if unchanged or copies:
            datamodule.encode_with(encoder)
    elif copies:
        raise ValueError(
            f"data.augmented_copies={copies} keeps features of a frozen encoder of milpath, and this one is not; set "
            "model.encoder.frozen=true, or data.augmented_copies=0"
        )
    return MILClassifier(
        network,
        class_names=datamodule.class_names,
        task=datamodule.fitted_target,
        optimizer=_optimizer(config.optimizer, config.trainer),
        scheduler=_scheduler(config.scheduler),
        auxiliary_loss=auxiliary_loss,
        class_weights=weights,
        tiling=tiling,
        encoder=encoder_of(datamodule.tile_store),
        data=description,
        warning=datamodule.warning,
    )


def _refuse_options_of_classes(config: DictConfig, target: Target) -> None:
    """Refuse options that a target without classes does not have, before a training rather than after it."""
    task, wished = target.name, config.get("decision") or {}
    if config.class_weights != "none":
        raise ValueError(
            f"class_weights={config.class_weights} needs classes, which a {task} task does not have; set none"
        )
    if wished.get("sensitivity") and target.decides and not target.has_threshold:
        raise ValueError("decision.sensitivity needs a binary target, and none of the targets is; remove this option")
    for name in ("sensitivity", "calibrate"):
        if wished.get(name) and not target.decides:
            raise ValueError(f"decision.{name} is for classes, and a {task} task predicts numbers; remove this option")


def _describe_data(config: DictConfig) -> dict[str, Any]:
    """Return the data as stored in a card; empty for a data set that plain values cannot describe."""
    description = cast(dict[str, Any], OmegaConf.to_container(config, resolve=True)) | {"standardize": False}
    try:
        require_plain(description, "data", allowed=("_target_",))
    except ValueError:
        return {}
    return description


def _auxiliary_loss(config: DictConfig | None, task: str, network: Any) -> AuxiliaryLoss | None:
    """Return the auxiliary loss; one with an argument `task` gets the task of the data."""
    classifies, by_class = hasattr(network, "instance_logits"), hasattr(network, "instance_layers")
    loss_of = {
        "milpath.training.auxiliary_losses.max_instance_loss": ("dsmil", classifies and not by_class),
        "milpath.training.auxiliary_losses.clustering_loss": ("clam_sb or model=clam_mb", by_class),
    }
    if config is not None:
        model, fits = loss_of.get(str(config.get("_target_")), ("", True))
        if not fits:
            raise ValueError(
                f"this auxiliary loss classifies tiles, which {type(network).__name__} does not do as it needs; set "
                f"model={model}, or auxiliary_loss=none"
            )
        if config.get("task") not in (None, task):
            raise ValueError(f"auxiliary_loss.task={config.task}, but the task of the data is {task}; leave it out")
    known = {"task": task} if config is not None and "task" in config else {}
    loss: AuxiliaryLoss | None = instantiate_entry(config, **known)
    return loss


def _tiling(datamodule: BagDataModule) -> dict[str, Any]:
    """Return how slides were tiled; for data sets of ready-made tiles, only the tile size."""
    image = len(datamodule.tile_shape) == 3
    tile_size = {"tile_size": datamodule.tile_shape[0]} if image else {}
    return tile_size | datamodule.tiling | trained_resolution(datamodule.store)


def _optimizer(config: DictConfig, trainer: DictConfig) -> Any:
    """Return the optimizer's factory after trying it on one parameter, so that bad values fail before training."""
    require_finite_numbers(OmegaConf.create({"optimizer": config}))
    make = instantiate_entry(config)
    try:
        tried = make([torch.nn.Parameter(torch.zeros(1))])
    except (TypeError, ValueError) as error:
        names = [name for name in map(str, config) if not name.startswith("_")]
        values = ", ".join(f"optimizer.{name}={config[name]}" for name in names)
        raise ValueError(f"{config._target_} rejects its values ({error}): {values}") from None
    precision = str(trainer.get("precision"))
    if not trainer.get("gradient_clip_val") or not getattr(tried, _UNSCALES, False) or precision not in _MIXED:
        return make
    if precision.startswith("16"):
        raise ValueError(
            f"trainer.gradient_clip_val={trainer.gradient_clip_val} cannot be combined with trainer.precision={precision} "
            "and a fused optimizer, which unscales the gradients only in its step; add optimizer.fused=false"
        )
    return partial(_without_unscaling, make)


def _without_unscaling(make: Callable[..., Optimizer], parameters: Any) -> Optimizer:
    """Return an optimizer that does not say that it unscales gradients: bfloat16 has none that are scaled.

    Lightning refuses to clip the gradients of one that says so in any mixed precision.
    """
    optimizer = make(parameters)
    setattr(optimizer, _UNSCALES, False)
    return optimizer


def _scheduler(config: DictConfig | None) -> Any:
    """Return the scheduler's factory; a period of no epoch, which torch takes, would make the rate jump."""
    period = 1 if config is None else config.get("T_max", 1)
    if not isinstance(period, int) or period < 1:
        raise ValueError(
            f"scheduler.T_max is {period} and must be a number of epochs, at least 1; it is trainer.max_epochs unless you "
            "set it: give scheduler.T_max to a training that ends by trainer.max_steps or trainer.max_time"
        )
    return instantiate_entry(config)


def _options() -> list[str]:
    """Return the names of the options shared by every data set."""
    return [name for name in inspect.signature(BagDataModule).parameters if name != "source"]
