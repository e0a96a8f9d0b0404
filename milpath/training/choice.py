"""What may choose between trainings."""

from milpath.data.datamodule import BagDataModule
from milpath.training.metrics import metric_names


def require_validation(monitor: str, datamodule: BagDataModule) -> None:
    """Refuse to choose by anything but a metric of the validation split.

    Args:
        monitor: `split/metric`.
        datamodule: The data, set up.

    Raises:
        ValueError: If the metric is another one, or no bag validates.
    """
    split, _, name = monitor.partition("/")
    names = metric_names(datamodule.task, datamodule.num_classes)
    if split != "val" or name not in names:
        known = ", ".join(f"val/{name}" for name in names)
        raise ValueError(f"monitor={monitor} cannot choose between trainings; give one of {known}")
    if "val" not in datamodule.splits:
        raise ValueError(
            "a search chooses on the validation split, and these data have none: give data.val_fraction=0.2"
        )
