"""Checks of the metrics that choose between trainings and between epochs."""

import math
from collections.abc import Mapping
from typing import Any

import numpy as np
from lightning.pytorch import Trainer
from lightning.pytorch.callbacks import EarlyStopping

from milpath.data.datamodule import BagDataModule
from milpath.targets import NumericTarget
from milpath.targets.evaluation import compute_metrics

# Logged on the validation split in addition to the metrics.
_MEANS = ("loss", "attention_entropy")
_OF_LIGHTNING = ("epoch", "step")


def require_validation(monitor: str, datamodule: BagDataModule) -> None:
    """Refuse a monitor that is not a metric of the validation split.

    Args:
        monitor: `split/metric`.
        datamodule: The data, after `setup`.

    Raises:
        ValueError: If the monitor is anything else, or the validation split is empty.
    """
    split, _, name = monitor.partition("/")
    names = datamodule.fitted_target.reported_metrics
    if split != "val" or name not in names:
        known = ", ".join(f"val/{name}" for name in names)
        raise ValueError(f"monitor={monitor} cannot choose between trainings; give one of {known}")
    if "val" not in datamodule.splits:
        raise ValueError(
            "a search chooses on the validation split, and these data have none; give data.val_fraction=0.2"
        )


def require_monitored(callbacks: Mapping[str, Any], datamodule: BagDataModule) -> None:
    """Refuse to monitor a value that validation never logs: early stopping would end the run after the first epoch.

    Args:
        callbacks: The configuration of the callbacks.
        datamodule: The data, after `setup`.

    Raises:
        ValueError: If a callback monitors something that is not a metric, or a metric that is undefined on the labels of
            the validation split, or the validation split is empty.
    """
    targets = [str((options or {}).get("_target_")) for options in callbacks.values()]
    are_known = all(target.startswith(("lightning.", "milpath.", "None")) for target in targets)
    for callback, options in callbacks.items():
        monitor = str((options or {}).get("monitor"))
        where = f"callbacks.{callback} monitors {monitor}"
        # A callback of somebody else may log anything.
        if are_known and "/" not in monitor and monitor not in ("None", *_OF_LIGHTNING):
            logged = sorted((*datamodule.fitted_target.reported_metrics, *_MEANS), key=lambda name: name != monitor)
            known = ", ".join(f"val/{name}" for name in logged)
            raise ValueError(f"{where}, which no training logs; give monitor= one of {known}")
        if not monitor.startswith("val/"):
            continue
        if "val" not in datamodule.splits:
            way_out = "give a larger data.val_fraction, or callbacks=no_validation to train for trainer.max_epochs"
            raise ValueError(f"{where}, but the validation split is empty; {way_out}")
        name = monitor.removeprefix("val/")
        defined = _defined_metrics(datamodule)
        if name not in (*defined, *_MEANS):
            known = ", ".join(f"val/{name}" for name in (*defined, *_MEANS))
            bags = f"{len(datamodule.bag_ids('val'))} validation bags"
            if datamodule.fitted_target.has_classes:
                bags = f"{', '.join(map(str, datamodule.class_counts('val')))} validation bags per class"
            raise ValueError(f"{where}; with {bags}, give monitor= one of {known}")


def require_first_validation(trainer: Trainer, datamodule: BagDataModule) -> None:
    """Refuse early stopping in a training that ends, or goes on, without a validation, which Lightning fails at.

    Args:
        trainer: With its callbacks.
        datamodule: The data, after `setup`.

    Raises:
        ValueError: If there is none after the first epoch.
    """
    stopping = [each for each in trainer.early_stopping_callbacks if isinstance(each, EarlyStopping)]
    asked = next((each.monitor for each in stopping if each.monitor.startswith("val/") and each.strict), None)
    if asked is None or trainer.val_check_interval != 1.0 or trainer.check_val_every_n_epoch != 1:
        return
    way_out = "or callbacks=no_validation, which tests the last weights"
    if trainer.limit_val_batches == 0:
        raise ValueError(
            f"early stopping monitors {asked}, and trainer.limit_val_batches=0 validates nothing; leave it out, {way_out}"
        )
    batches: float = _num_batches(trainer, datamodule, "train")
    limit = trainer.limit_train_batches
    batches = min(batches, limit) if isinstance(limit, int) else batches * limit
    steps = math.ceil(int(batches) / trainer.accumulate_grad_batches)
    if 0 <= trainer.max_steps < steps:
        raise ValueError(
            f"early stopping monitors {asked}, and trainer.max_steps={trainer.max_steps} ends before the first validation; "
            f"an epoch has {steps} steps: give trainer.max_steps={steps} or more, {way_out}"
        )


def require_some_batches(trainer: Trainer, datamodule: BagDataModule) -> None:
    """Refuse a fraction of the batches that is less than one of them.

    Args:
        trainer: With its limits.
        datamodule: The data, after `setup`.

    Raises:
        ValueError: With the least fraction.
    """
    limits = {"train": trainer.limit_train_batches, "val": trainer.limit_val_batches}
    for split, limit in limits.items():
        batches = _num_batches(trainer, datamodule, split) if split in datamodule.splits else 0
        if batches and isinstance(limit, float) and 0 < limit * batches < 1:
            raise ValueError(
                f"trainer.limit_{split}_batches={limit} is less than one of the {batches} batches of an epoch; give "
                f"{math.ceil(1000 / batches) / 1000:g} or more, or a whole number of batches"
            )


def _num_batches(trainer: Trainer, datamodule: BagDataModule, split: str) -> int:
    """Return the batches of a split that a process gets in an epoch."""
    size = datamodule.batch_size if split == "train" else datamodule.eval_batch_size
    return math.ceil(len(datamodule.bag_ids(split)) / (size * trainer.world_size))


def _defined_metrics(datamodule: BagDataModule) -> list[str]:
    """Return the metrics that are defined on the labels of the validation split."""
    target = datamodule.fitted_target
    if isinstance(target, NumericTarget):
        return list(target.defined_metrics(datamodule.labels("val")))
    counts = datamodule.class_counts("val")
    labels = np.repeat(np.arange(len(counts)), counts)
    probabilities = np.full((len(labels), len(counts)), 1 / len(counts))
    return [
        name for name, value in compute_metrics(probabilities, labels, datamodule.task).items() if value is not None
    ]
