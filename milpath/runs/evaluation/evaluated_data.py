"""The bags that an evaluation tests: those of the checkpoint's run in its split, or all bags of other data."""

from collections.abc import Collection, Mapping, Sequence
from pathlib import Path
from typing import Any, cast

from omegaconf import DictConfig, OmegaConf

from milpath.data.datamodule import BagDataModule
from milpath.data.sources.bag_source import FileSource
from milpath.data.splits.bag_lists import excluded_bags, listed
from milpath.models.card import Card, features_of
from milpath.records.label_table import find_column
from milpath.runs.build import build_datamodule, build_described_datamodule
from milpath.runs.earlier_run import identity_in_checkpoint
from milpath.runs.evaluation.evaluation_options import refuse_replaced, require_named_data
from milpath.runs.run_identity import RunIdentity, bags_of, digest_of_splits
from milpath.targets import target_of
from milpath.targets.columns.label_columns import default_column

# Options that define a split; if one is on the command line, that split is used.
_SPLIT = ("fold", "num_folds", "val_fraction", "split_seed", "splits", "split_column")
# Options needed to reproduce the split of a run.
_SPLIT_OF_RUN = (
    *_SPLIT, "group_column", "groups", "stratify_by", "exclude", "max_bags", "max_bags_per_class",
)  # fmt: skip


def evaluated_data(
    checkpoint: str,
    card: Card,
    data: DictConfig | None,
    splits: Sequence[str],
    typed: Collection[str],
    *,
    stores_dir: str,
    sources: Sequence[type] = (),
) -> tuple[BagDataModule, str]:
    """Return the data of an evaluation, after `setup`, and a note on which bags are tested.

    Args:
        checkpoint: Path of the checkpoint.
        card: Its card.
        data: The `data` configuration; empty for the data of the run that wrote the checkpoint.
        splits: Names of the splits that are tested.
        typed: Keys given on the command line.
        stores_dir: Folder on this machine for the bag stores of the checkpoint's data.
        sources: The user's own data sets that the checkpoint may describe.

    Returns:
        The data, and the note in one line (empty if there is nothing to say).

    Raises:
        ValueError: If the checkpoint names no data set, or the split of its run cannot be reproduced.
    """
    trained = identity_in_checkpoint(Path(checkpoint))
    require_named_data(data)
    if not data:
        try:
            datamodule = build_described_datamodule(card.data, sources, stores_dir=stores_dir)
        except ValueError as error:
            raise ValueError(f"{checkpoint} {error}") from None
        keep_target(datamodule, card)
        datamodule.setup("test")
        _require_split_of_run(trained, datamodule, checkpoint)
        return datamodule, ""
    given = cast(dict[str, Any], OmegaConf.to_container(data, resolve=True))
    if (bag_column := card.data.get("bag_column")) and not given.get("bag_column"):
        raise ValueError(
            f"{checkpoint} was trained on patients, each a bag of all its slides; give data.bag_column={bag_column}, and "
            "data.slides=CSV if the labels do not name the patient of each slide"
        )
    if typed_split(given, typed):
        datamodule = data_with_split(data, card)
        return datamodule, _note(datamodule, given, splits, trained)
    changes: dict[str, Any] = {"num_folds": 1, "fold": 0}
    datamodule = data_with_split(data, card, changes)
    if trained is None or not _holds_training_tiles(trained, datamodule, data, card):
        return datamodule, _note(datamodule, given | changes, splits, trained)
    changes, as_given = {name: card.data[name] for name in _SPLIT_OF_RUN if name in card.data}, datamodule
    datamodule = data_with_split(data, card, changes)
    refuse_replaced(given, typed, as_given, datamodule, _splits_file(checkpoint))
    _require_split_of_run(trained, datamodule, checkpoint)
    return datamodule, _note(datamodule, given | changes, splits, trained)


def rounded_as_trained(data: DictConfig | None, card: Card, typed: Collection[str]) -> DictConfig | None:
    """Return the configuration of data whose features are rounded as those of the training, unless it says otherwise.

    Args:
        data: The configuration; `None` for the data of the run.
        card: Card of the checkpoint.
        typed: Keys given on the command line.
    """
    if not data or "dtype" not in data or "data.dtype" in typed:
        return data
    return cast(DictConfig, OmegaConf.merge(data, {"dtype": features_of(card)}))


def require_same_task(card: Card, datamodule: BagDataModule, checkpoint: str) -> None:
    """Refuse to evaluate a network on labels it was not trained for.

    Raises:
        ValueError: If the target or its classes differ, or another column than that of the training is read unasked.
    """
    found = (datamodule.task, tuple(datamodule.class_names))
    columns, trained = datamodule.tile_store.bags.columns, card.data.get("label_column")
    read = find_column(columns, default_column(datamodule.target))
    forgotten = (
        trained is not None
        and datamodule.label_column is None
        and datamodule.fitted_target.has_classes
        and find_column(columns, str(trained)) not in (None, read)
    )
    if found != (card.task, tuple(card.class_names)):
        way_out = f"data.label_column={trained}" if forgotten else "data.target, data.task or data.class_names"
        raise ValueError(
            f"{checkpoint} was trained for {card.task} {', '.join(card.class_names)}, but the data have "
            f"{found[0]} {', '.join(found[1])}; set {way_out}"
        )
    if forgotten:
        raise ValueError(
            f"{checkpoint} was trained on column {trained!r}, which these data have as well, but their column {read!r} "
            f"would be tested; give data.label_column={trained}, or data.label_column={read} if that is meant"
        )


def is_other_cohort(checkpoint: str, card: Card, data: DictConfig | None, datamodule: BagDataModule) -> bool:
    """Return whether the tested bags are of other data than the training bags of a checkpoint; arguments as above."""
    if not data:
        return False
    trained = identity_in_checkpoint(Path(checkpoint))
    return trained is None or not _holds_training_tiles(trained, datamodule, data, card)


def tests_split_of_run(checkpoint: str, datamodule: BagDataModule) -> bool:
    """Return whether data, after `setup`, have the split that a checkpoint was trained with."""
    return _has_split_of(identity_in_checkpoint(Path(checkpoint)), datamodule) is True


def _holds_training_tiles(trained: RunIdentity, datamodule: BagDataModule, data: DictConfig, card: Card) -> bool:
    """Return whether data have the tiles that a network was trained on, possibly among bags its run excluded."""
    wanted = trained.contents.get("tiles_sha256")
    if wanted == datamodule.tile_store.description["sha256"]:
        return True
    excluded = card.data.get("exclude")
    if datamodule.left_out is None or not excluded or not all(Path(str(path)).is_file() for path in listed(excluded)):
        return False
    names = datamodule.source.bag_names() if isinstance(datamodule.source, FileSource) else set()
    if not excluded_bags(listed(excluded), sorted(names)):
        return False
    same_bags = data_with_split(data, card, {"num_folds": 1, "fold": 0, "exclude": excluded})
    return bool(wanted == same_bags.tile_store.description["sha256"])


def typed_split(given: Mapping[str, Any], typed: Collection[str]) -> bool:
    """Return whether data come with a split on the command line or in a file."""
    return bool(given.get("splits")) or any(f"data.{name}" in typed for name in _SPLIT)


def data_with_split(data: DictConfig, card: Card, changes: Mapping[str, Any] | None = None) -> BagDataModule:
    """Return the data module of a configuration with some options replaced, after `setup`."""
    datamodule = build_datamodule(data, **(changes or {}))
    keep_target(datamodule, card)
    datamodule.setup("test")
    return datamodule


def keep_target(datamodule: BagDataModule, card: Card) -> None:
    """Give data, before `setup`, the classes of a trained network, or its target with the fitted values."""
    target = target_of(card)
    datamodule.trained_names = card.class_names if target.has_classes else None
    datamodule.trained_target = target


def _has_split_of(trained: RunIdentity | None, datamodule: BagDataModule) -> bool | None:
    """Return whether data have the split of a run; `None` if it left no record of it."""
    wanted = None if trained is None else trained.contents.get("splits_sha256")
    return None if wanted is None else wanted == digest_of_splits(bags_of(datamodule.split_frame()))


def _require_split_of_run(trained: RunIdentity | None, datamodule: BagDataModule, checkpoint: str) -> None:
    """Refuse a split that differs from that of the run: training bags would be tested."""
    if _has_split_of(trained, datamodule) is not False:
        return
    raise ValueError(
        f"the data of {checkpoint} now give a split other than the one it was trained with (bags, labels or groups have "
        f"changed), so bags it was trained on would be tested; give data=NAME with its options and data.splits="
        f"{_splits_file(checkpoint)}"
    )


def _splits_file(checkpoint: str) -> str:
    """Return the file of the split of a run, or words for it if it is elsewhere."""
    path = Path(checkpoint).parent.parent / "splits.csv"
    return str(path) if path.is_file() else "SPLITS.csv of the run"


def _note(
    datamodule: BagDataModule, data: Mapping[str, Any], splits: Sequence[str], trained: RunIdentity | None
) -> str:
    """Return how many bags are tested, why not all of them, and whether the network was trained on some."""
    said = [line] if (line := untested_bags(datamodule, data, splits)) else []
    frame = datamodule.split_frame()
    tested = frame.loc[frame["split"].isin(list(splits)), "id"].astype(str).tolist()
    if trained is not None and trained.bags:
        seen = [name for name in tested if trained.bags.get(name, ("", ""))[0] == "train"]
        if seen:
            said.append(f"{len(seen)} of the tested bags have the name of a training bag (first: {min(seen)})")
    elif trained is not None and trained.contents.get("tiles_sha256") == datamodule.tile_store.description["sha256"]:
        said.append("the tested bags come from the data the network was trained on")
    return "; ".join(said)


def untested_bags(datamodule: BagDataModule, data: Mapping[str, Any], splits: Sequence[str]) -> str:
    """Return how many bags of the data are tested and why not all; empty if all are.

    Args:
        datamodule: The data, after `setup`.
        data: Their configuration.
        splits: Names of the splits that are tested.
    """
    num_bags = len(datamodule.tile_store.bags) + len(datamodule.left_out or ())
    num_tested = int(datamodule.split_frame()["split"].isin(list(splits)).sum())
    if num_tested == num_bags:
        return ""
    return f"{num_tested} of {num_bags} bags are tested: {', '.join(_reasons(datamodule, data, splits))}"


def _reasons(datamodule: BagDataModule, data: Mapping[str, Any], splits: Sequence[str]) -> list[str]:
    """Return the reasons why bags of a store are not tested, each with its count."""
    frame = datamodule.split_frame()
    if data.get("splits"):
        made_by = f"data.splits={data['splits']}"
    elif datamodule.split_column:
        made_by = f"column {datamodule.split_column!r} of the data"
    else:
        made_by = f"data.num_folds={data.get('num_folds', 5)} data.fold={data.get('fold', 0)}"
    reasons = [
        f"{count} are in the split {name!r} ({made_by})"
        for name, count in frame["split"].value_counts().items()
        if name not in list(splits)
    ]
    if left_out := len(datamodule.tile_store.bags) + len(datamodule.left_out or ()) - len(frame):
        options = [f"data.{name}" for name in ("splits", "exclude", "max_bags", "max_bags_per_class") if data.get(name)]
        reasons.append(f"{left_out} are left out ({', '.join(options) or 'no label'})")
    return reasons
