"""Options of a training that change nothing beside the others: refused, or said where a search may try them together."""

import logging
from collections.abc import Iterator, Mapping
from inspect import signature
from pathlib import Path
from typing import Any

import numpy as np
from omegaconf import DictConfig, OmegaConf

from milpath.config.roots import Decision
from milpath.data import ImageTiles
from milpath.data.datamodule import BagDataModule
from milpath.models import InstancePoolMIL
from milpath.targets import NumericTarget, Regression, Survival

_log = logging.getLogger(__name__)
_OF_DECISION = Decision()
_LOG_NO_STEP = (
    "AttentionMontages", "AveragedWeights", "BestCheckpoint", "EarlyStopping", "EpochLine", "ModelCheckpoint", "StayStopped",
    "TimedCheckpoint", "TrainingLines", "epoch_progress",
)  # fmt: skip
# Options beside which the column of the patient has an effect, or the split is given.
_OF_PATIENTS = (
    "patients", "slides", "bag_column", "group_column", "groups", "aggregate", "splits", "split_column",
)  # fmt: skip


def refuse_unused(config: DictConfig) -> None:
    """Refuse options that contradict another one, before any work.

    Args:
        config: Root of the `train` command.

    Raises:
        ValueError: With the option, and what to type instead.
    """
    require_printed_report(config)
    _require_best_checkpoint(config)
    wished = config.get("decision") or {}
    if wished.get("coverage_by_class") and wished.get("coverage") is None:
        raise ValueError(
            "decision.coverage_by_class=true changes nothing without prediction sets; add decision.coverage=0.9 (or yours), "
            "or leave it out"
        )
    share = wished.get("refer_unfamiliar")
    if not wished.get("familiarity", True) and share not in (None, _OF_DECISION.refer_unfamiliar):
        raise ValueError(
            f"decision.refer_unfamiliar={share:g} refers no slide with decision.familiarity=false, which fits no model of "
            "familiar slides; leave out one of them"
        )
    data = config.get("data") or {}
    if isinstance(data.get("label_column"), Mapping):
        raise ValueError(
            "data.label_column={...} is for other data of a trained network; name the columns of a training in its target, "
            "such as target.time_column=NAME"
        )
    if data.get("slide_column") is not None and not data.get("slides"):
        raise ValueError(
            f"data.slide_column={data.get('slide_column')} is a column of data.slides; give data.slides=CSV, or leave it out"
        )


def require_printed_report(config: DictConfig) -> None:
    """Refuse to print a report that is not written.

    Args:
        config: Root of the `train` or `evaluate` command.

    Raises:
        ValueError: If only `report_pdf` is true.
    """
    if config.get("report_pdf") and not config.get("report", True):
        raise ValueError(
            "report_pdf=true prints report.html, which report=false does not write; set report=true, or leave report_pdf out"
        )


def _require_best_checkpoint(config: DictConfig) -> None:
    """Refuse another name for the best checkpoint: a run that lacks `best.ckpt` tests its last weights instead."""
    entry = (config.get("callbacks") or {}).get("best_checkpoint") or {}
    if not str(entry.get("_target_")).endswith("Checkpoint"):
        return
    for option, wanted in (("filename", "best"), ("dirpath", f"{config.paths.run_dir}/checkpoints")):
        value = str(entry.get(option, wanted))
        if value != wanted and (option == "filename" or Path(value).resolve() != Path(wanted).resolve()):
            raise ValueError(
                f"callbacks.best_checkpoint.{option}={value}: a run is tested from checkpoints/best.ckpt in its folder; "
                "leave it out, and add a callback of your own for another file"
            )
    kept = entry.get("save_top_k", 1)
    if kept != 1:
        why = "each of several epochs would replace; leave it out, and add a callback of your own for more files"
        if kept == 0:
            why = "0 never writes; leave it out, or give callbacks.best_checkpoint=null to test the last epoch"
        raise ValueError(f"callbacks.best_checkpoint.save_top_k={kept}: best.ckpt is one file, which {why}")


def refuse_unused_decision(config: DictConfig, datamodule: BagDataModule) -> None:
    """Refuse what cannot be decided on the validation split of these data, before the training rather than after it.

    Args:
        config: Root of the `train` command.
        datamodule: The data, after `setup`.

    Raises:
        ValueError: With the option of `decision`.
    """
    target, wished = datamodule.fitted_target, config.get("decision") or {}
    typed = {name: wished.get(name) for name in ("sensitivity", "calibrate") if wished.get(name)}
    # Without any deferral, 0 means what happens.
    if (share := wished.get("defer_fraction", 0)) not in (0, _OF_DECISION.defer_fraction):
        typed["defer_fraction"] = share
    if not typed:
        return
    name, value = next(iter(typed.items()))
    if isinstance(target, NumericTarget) and not target.decides:
        raise ValueError(
            f"decision.{name}={value} is for classes, and a {target.name} task predicts numbers; remove this option"
        )
    if "sensitivity" in typed and not isinstance(target, NumericTarget) and not target.has_threshold:
        raise ValueError(f"decision.sensitivity={value} needs a binary task, not a {target.name} one; leave it out")
    found = None
    if "val" not in datamodule.splits:
        found = "is empty"
    elif not isinstance(target, NumericTarget) and np.count_nonzero(datamodule.class_counts("val")) < 2:
        found = "has bags of only one class"
    if found is not None:
        raise ValueError(
            f"decision.{name}={value} is chosen on the validation split, which {found}; set data.val_fraction, or remove "
            "this option"
        )


def say_unused(config: DictConfig) -> None:
    """Warn about options that change nothing with the values of others, which a search or a table may combine.

    Args:
        config: Root of the `train` command.
    """
    for line in unused_options(config):
        _log.warning("%s", line)


def unused_options(config: DictConfig) -> Iterator[str]:
    """Yield a line for each option that was changed and has no effect, with what would give it one.

    Args:
        config: Root of the `train` command.

    Example:
        >>> config = OmegaConf.create({"data": {"augmentation": "flips", "stain_jitter": 0.3}})
        >>> next(unused_options(config))
        'data.stain_jitter=0.3 changes nothing with data.augmentation=flips; data.augmentation=full has stain jitter'
    """
    data, model, target = (_plain(config, group) for group in ("data", "model", "target"))
    if _was_changed(data, "stain_jitter", BagDataModule) and data.get("augmentation", "full") != "full":
        yield (
            f"data.stain_jitter={data['stain_jitter']} changes nothing with data.augmentation={data['augmentation']}; "
            "data.augmentation=full has stain jitter"
        )
    if _is(data, "ImageTiles") and data.get("rule") == "grid" and _was_changed(data, "num_tiles", ImageTiles):
        yield f"data.num_tiles={data['num_tiles']} changes nothing with data.rule=grid, which takes all tiles of an image"
    if data.get("splits") and data.get("split_column"):
        yield f"data.split_column={data['split_column']} changes nothing: the split is in data.splits={data['splits']}"
    steps, callbacks = _plain(config, "trainer").get("log_every_n_steps", 10), _plain(config, "callbacks").values()
    if steps not in (0, 10, None) and all(map(_logs_epochs, filter(None, callbacks))):
        yield (
            f"trainer.log_every_n_steps={steps} changes nothing: loss and metrics have a row per epoch; "
            "callbacks.learning_rate.logging_interval=step logs steps"
        )
    if _was_changed(data, "patient_column", BagDataModule) and not any(map(data.get, _OF_PATIENTS)):
        column = data["patient_column"]
        yield (
            f"data.patient_column={column} does not keep the slides of a patient in one split without data.patients or "
            f"data.slides; data.group_column={column} does"
        )
    of_plain_pool = _is(model, "PoolMIL") and model.get("pooling") in ("mean", "max")
    if of_plain_pool and _was_changed(model, "sharpness", InstancePoolMIL):
        yield (
            f"model.sharpness={model['sharpness']} changes nothing with model.pooling={model['pooling']}; "
            "model.pooling=log_sum_exp has it"
        )
    if _is(target, "Regression") and target.get("loss") == "squared" and _was_changed(target, "delta", Regression):
        yield f"target.delta={target['delta']} changes nothing with target.loss=squared; target.loss=huber has it"
    is_survival = _is(target, "Survival") or data.get("task") == "survival"
    if is_survival and data.get("label_column") is not None:
        yield (
            f"data.label_column={data['label_column']} changes nothing for a survival task, which reads "
            f"target.time_column={target.get('time_column', 'time')} and "
            f"target.event_column={target.get('event_column', 'event')}"
        )
    of_cox = _is(target, "Survival") and target.get("loss") == "cox"
    if of_cox and _was_changed(target, "num_intervals", Survival):
        yield (
            f"target.num_intervals={target['num_intervals']} changes nothing with target.loss=cox; target.loss=hazard has "
            "intervals"
        )


def _was_changed(group: Mapping[str, Any], name: str, kind: type) -> bool:
    """Return whether a group has another value than the class that it is for takes by itself."""
    default = signature(kind).parameters[name].default
    return bool(group.get(name, default) != default)


def _logs_epochs(callback: Mapping[str, Any]) -> bool:
    """Return whether a callback is known to log epochs at most."""
    target = str(callback.get("_target_", "")).rpartition(".")[2]
    return target in _LOG_NO_STEP or (target == "LearningRateMonitor" and callback.get("logging_interval") == "epoch")


def _plain(config: DictConfig, group: str) -> Mapping[str, Any]:
    """Return the plain values of a group of the configuration; empty without one."""
    content = config.get(group)
    found = OmegaConf.to_container(content, resolve=True) if OmegaConf.is_config(content) else {}
    return {str(name): value for name, value in found.items()} if isinstance(found, dict) else {}


def _is(group: Mapping[str, Any], name: str) -> bool:
    """Return whether a group is for a class of this library whose name ends like this."""
    target = str(group.get("_target_"))
    return target.startswith("milpath.") and target.endswith(name)
