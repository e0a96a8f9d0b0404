"""Options of an evaluation that are wrong for any network, or would change nothing."""

from collections.abc import Collection, Mapping, Sequence
from typing import Any

from omegaconf import DictConfig

from milpath.data.datamodule import BagDataModule
from milpath.data.splits.assign_splits import SPLITS
from milpath.runs.chosen_parts.unused_options import require_printed_report
from milpath.slides.slide_files import require_slides_dir
from milpath.tiling.slide_resolutions import require_known_choice
from milpath.tiling.slide_run import require_sensible

# Options that leave out bags.
_LIMITS = ("exclude", "max_bags", "max_bags_per_class")
_GROUPS = ("group_column", "groups")


def require_values(config: DictConfig) -> None:
    """Refuse options that are unknown, or belong to one that is not given, before a network is loaded.

    Args:
        config: Root of the `evaluate` command.

    Raises:
        FileNotFoundError: If the folder of the slides does not exist.
        ValueError: With the option.
    """
    require_printed_report(config)
    require_slides_dir(config.slides_dir)
    require_known_splits(config.splits)
    require_sensible(config.on_error, config.num_workers, config.overwrite)
    require_known_choice(config.mixed_resolution)
    if config.slides is not None or config.labels is not None:
        return
    for name in ("id_column", "label_column", "resolutions"):
        if config[name] is not None:
            raise ValueError(
                f"{name}={config[name]} is an option of slides=FOLDER labels=CSV; leave it out, or give these instead of "
                "data"
            )


def require_known_splits(splits: Sequence[str]) -> None:
    """Refuse names that are no split: the others would be tested without a word.

    Args:
        splits: The option `splits`.

    Raises:
        ValueError: With the first unknown name.
    """
    if unknown := [name for name in splits if name not in SPLITS]:
        raise ValueError(f"splits={list(splits)}: {unknown[0]!r} is not one of {', '.join(SPLITS)}")


def require_named_data(data: Mapping[str, Any] | None) -> None:
    """Refuse options of data without the data.

    Args:
        data: The `data` configuration; empty for the data of the run.

    Raises:
        ValueError: With the first option.
    """
    if data and "_target_" not in data:
        raise ValueError(f"data.{next(iter(data))} is an option of a data set; give data=NAME with it")


def refuse_replaced(
    given: Mapping[str, Any], typed: Collection[str], as_given: BagDataModule, of_run: BagDataModule, splits_file: str
) -> None:
    """Refuse options that the split of the run replaces, if they would leave out bags or make other groups.

    Args:
        given: The `data` configuration.
        typed: Keys given on the command line.
        as_given: These data without a split.
        of_run: These data with the split of the run.
        splits_file: That split in a file.

    Raises:
        ValueError: With the option, and how to have it.
    """
    lost = set(of_run.label_frame["bag_id"]) - set(as_given.label_frame["bag_id"])
    names = [*(_LIMITS if lost else ()), *(_GROUPS if as_given.groups != of_run.groups and not lost else ())]
    if word := next((name for name in names if f"data.{name}" in typed), None):
        raise ValueError(
            f"data.{word}={given[word]} changes nothing: these are the data of the run, whose split is tested as it was; "
            f"add data.splits={splits_file} to test that split with this option"
        )
