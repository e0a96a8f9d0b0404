"""What may choose between trainings, and between the epochs of one."""

from collections.abc import Mapping
from typing import Any

import numpy as np

from milpath.data.datamodule import BagDataModule
from milpath.targets import target_named
from milpath.targets.evaluation import compute_metrics

# Logged of the validation split beside the metrics.
_MEANS = ("loss", "attention_entropy")


def require_validation(monitor: str, datamodule: BagDataModule) -> None:
    """Refuse to choose by anything but a metric of the validation split.

    Args:
        monitor: `split/metric`.
        datamodule: The data, set up.

    Raises:
        ValueError: If the metric is another one, or no bag validates.
    """
    split, _, name = monitor.partition("/")
    names = target_named(datamodule.task).reported_metrics
    if split != "val" or name not in names:
        known = ", ".join(f"val/{name}" for name in names)
        raise ValueError(f"monitor={monitor} cannot choose between trainings; give one of {known}")
    if "val" not in datamodule.splits:
        raise ValueError(
            "a search chooses on the validation split, and these data have none: give data.val_fraction=0.2"
        )


def require_monitored(callbacks: Mapping[str, Any], datamodule: BagDataModule) -> None:
    """Refuse to watch what no validation will ever say: early stopping would end the run after its first epoch.

    Args:
        callbacks: The configuration of the callbacks.
        datamodule: The data, set up.

    Raises:
        ValueError: If a callback monitors a metric that is none, that is not defined on the labels of the validation split,
            or of a validation split that has no bag.
    """
    for callback, options in callbacks.items():
        monitor = str((options or {}).get("monitor"))
        if not monitor.startswith("val/"):
            continue
        where = f"callbacks.{callback} watches {monitor}"
        if "val" not in datamodule.splits:
            way_out = "give a larger data.val_fraction, or callbacks=no_validation to train for trainer.max_epochs"
            raise ValueError(f"{where}, and no bag validates: {way_out}")
        name = monitor.removeprefix("val/")
        defined = _defined_metrics(datamodule)
        if name not in (*defined, *_MEANS):
            known = ", ".join(f"val/{name}" for name in (*defined, *_MEANS))
            counts = ", ".join(map(str, datamodule.class_counts("val")))
            raise ValueError(f"{where}; with {counts} bags a class to validate on, give monitor= one of {known}")


def _defined_metrics(datamodule: BagDataModule) -> list[str]:
    """Return the metrics that have a value on the labels of the validation split."""
    counts = datamodule.class_counts("val")
    labels = np.repeat(np.arange(len(counts)), counts)
    probabilities = np.full((len(labels), len(counts)), 1 / len(counts))
    return [
        name for name, value in compute_metrics(probabilities, labels, datamodule.task).items() if value is not None
    ]
