"""The validation predictions of all folds, on which the answer of the folds together is calibrated."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from milpath.metrics.conformal import FoldScores
from milpath.models.checkpoint import RUN_KEY, card_of, read_checkpoint
from milpath.records.digests import sha256_of_splits
from milpath.records.label_table import read_written_table
from milpath.records.prediction_table import read_predictions
from milpath.targets import Target, target_of
from milpath.targets.set_parts import SetPart, set_parts

Array = NDArray[np.float64]


@dataclass(frozen=True)
class FoldRecord:
    """What the folder of a fold says of its run.

    Attributes:
        path: The checkpoint.
        settings: The settings of the run, dotted key to value.
        tiles_sha256: Digest of the tiles it was trained on.
        splits: Bag to split.
        bag_ids: Its validation bags.
        labels: `(bags,)` classes, or `(bags, columns)`.
        answers: `(bags, columns)`, predictions of this fold's network with its temperature.
        target: Its target, with what its training fitted.
        groups: Bag to group (patient); empty if the bags are independent, or the run did not write them.
    """

    path: Path
    settings: Mapping[str, Any]
    tiles_sha256: str
    splits: Mapping[str, str]
    bag_ids: Sequence[str]
    labels: NDArray[Any]
    answers: Array
    target: Target
    groups: Mapping[str, str]

    def scores(self, part: SetPart) -> FoldScores:
        """Return the validation bags of this fold with a label of a target, for its prediction sets.

        Args:
            part: The target, of those of the average.
        """
        own = next(each for each in set_parts(self.target, part.names) if each.name == part.name)
        rows, labels = own.known(self.labels)
        names = None if not self.groups else np.array([self.groups[self.bag_ids[row]] for row in rows], dtype=np.str_)
        return FoldScores(labels, own.of(self.answers[rows]), names)


@dataclass(frozen=True)
class PooledValidation:
    """One row per bag that is in the validation split of some fold, predicted by that fold's network.

    Attributes:
        bag_ids: Names of the bags.
        labels: `(bags,)` classes, or `(bags, columns)`.
        answers: `(bags, columns)` of the average; of a bag that is in the validation split of several folds, the mean. NaN
            where the files of a fold do not say it.
        groups: `(bags,)` group of each bag; `None` if all bags are independent.
    """

    bag_ids: Sequence[str]
    labels: NDArray[Any]
    answers: Array
    groups: NDArray[np.str_] | None


def read_fold(path: Path) -> FoldRecord:
    """Read the record and the validation predictions of the run of a checkpoint.

    Raises:
        FileNotFoundError: If the run folder is not around the checkpoint.
        ValueError: If its files are not those of the run that wrote the checkpoint.
    """
    content = read_checkpoint(path)
    record = content.get(RUN_KEY)
    run_dir = path.parent.parent
    if not isinstance(record, Mapping) or path.name != "best.ckpt" or not (run_dir / "predictions.csv").is_file():
        raise FileNotFoundError(
            f"{path} is not checkpoints/best.ckpt in a run folder with predictions.csv, on whose validation split several "
            "folds are calibrated together; give the best.ckpt of each run where the training left it"
        )
    contents, settings = record.get("contents"), record.get("settings")
    table = read_written_table(run_dir / "splits.csv", required=("split",))
    splits = dict(zip(table["bag_id"].astype(str), table["split"].astype(str), strict=True))
    if (
        not isinstance(contents, Mapping)
        or not isinstance(settings, Mapping)
        or contents.get("splits_sha256") != sha256_of_splits(splits)
    ):
        raise ValueError(f"{run_dir}/splits.csv is not that of the run that wrote {path}; give the folder of the run")
    card = card_of(content, path)
    aggregate = card.data.get("aggregate")
    part = read_predictions(run_dir / "predictions.csv").of_split("val")
    wanted, found = {name for name, split in splits.items() if split == "val"}, part.bag_ids
    if aggregate:  # the predictions are those of patients, and splits.csv has their slides
        found = read_predictions(run_dir / "slide_predictions.csv").of_split("val").bag_ids
    if set(found) != wanted or len(found) != len(wanted):
        raise ValueError(f"{run_dir}/predictions.csv does not hold the {len(wanted)} validation bags of its run")
    groups: dict[str, str] = {}
    if "group" in table and not aggregate:  # patients are independent
        groups = dict(zip(table["bag_id"].astype(str), table["group"].astype(str), strict=True))
    return FoldRecord(
        path, settings, str(contents.get("tiles_sha256")), splits, part.bag_ids, part.labels,
        part.probabilities.astype(np.float64), target_of(card), groups,
    )  # fmt: skip


def pool_validation(folds: Sequence[FoldRecord], target: Target) -> PooledValidation:
    """Return the validation predictions of all folds, one row per bag; test predictions are never used.

    Args:
        folds: The folds.
        target: The target of their average.

    Raises:
        ValueError: If there are none, or two folds have another label for a bag.
    """
    labels: dict[str, Any] = {}
    answers: dict[str, list[Array]] = {}
    for fold in folds:
        of_average = target.as_average(fold.target, fold.answers)
        for name, label, row in zip(fold.bag_ids, fold.labels, of_average, strict=True):
            if name in labels and not np.array_equal(labels[name], label, equal_nan=not target.has_classes):
                raise ValueError(f"bag {name!r} has another label in {fold.path} than in the folds before; train again")
            labels[name] = label
            answers.setdefault(name, []).append(row)
    if not labels:
        raise ValueError("no fold has validation bags, on which their average is calibrated; set data.val_fraction")
    groups = {name: group for fold in folds for name, group in fold.groups.items()}
    names = sorted(labels)
    return PooledValidation(
        names,
        np.array([labels[name] for name in names]),
        np.stack([np.mean(answers[name], axis=0) for name in names]),
        np.array([groups[name] for name in names]) if all(name in groups for name in names) else None,
    )


def trained_on(folds: Sequence[FoldRecord], bag_ids: Sequence[str], tiles_sha256: str) -> tuple[list[str], bool]:
    """Return the bags that some fold was trained on or calibrated with, by name, and whether the tiles are the same.

    Args:
        folds: The folds.
        bag_ids: Bags that are to be tested.
        tiles_sha256: Digest of the tiles they come from.
    """
    seen = {name for fold in folds for name, split in fold.splits.items() if split in ("train", "val")}
    same = any(fold.tiles_sha256 == tiles_sha256 for fold in folds)
    return sorted(pd.unique(pd.Series([name for name in bag_ids if name in seen], dtype=object)).tolist()), same
