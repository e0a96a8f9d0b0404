"""Other data on which the folds of a cross-validation are tested together."""

from collections.abc import Collection, Sequence
from typing import Any, cast

import numpy as np
from numpy.typing import NDArray
from omegaconf import DictConfig, OmegaConf

from milpath.data.datamodule import BagDataModule
from milpath.inference.ensemble import Predictor
from milpath.inference.ensemble.pooled_validation import trained_on
from milpath.metrics.cohort_shift import CohortShift, cohort_shift
from milpath.records.prediction_table import Predictions
from milpath.runs.evaluation.evaluated_data import data_with_split, typed_split, untested_bags
from milpath.targets import ClassTarget, target_of


def cohort_of_folds(
    predictor: Predictor, data: DictConfig | None, splits: Sequence[str], typed: Collection[str]
) -> tuple[BagDataModule, str]:
    """Return the data on which several folds are tested, after `setup`, and a note on them.

    Args:
        predictor: The folds.
        data: The `data` configuration, which must be given: each fold has a split of its own.
        splits: Names of the splits that are tested.
        typed: Keys given on the command line.

    Raises:
        ValueError: If there are no data, or some fold was trained on a tested bag.
    """
    if not data:
        raise ValueError(
            "each fold has a split of its own, so that no bags of their data test all of them; give the data of another "
            "cohort, data=NAME with its options (the table has the results of each fold on its own test split)"
        )
    given = cast(dict[str, Any], OmegaConf.to_container(data, resolve=True))
    changes = {} if typed_split(given, typed) else {"num_folds": 1, "fold": 0}
    datamodule = data_with_split(data, predictor.card, changes)
    frame = datamodule.split_frame()
    tested = frame.loc[frame["split"].isin(list(splits)), "id"].astype(str).tolist()
    seen, same = trained_on(predictor.folds, tested, str(datamodule.tile_store.description["sha256"]))
    if seen and same:
        raise ValueError(
            f"{len(seen)} of the {len(tested)} tested bags are training or validation bags of some fold (first: "
            f"{seen[0]!r}); test the folds together on another cohort, or on bags that data.exclude kept from all of them"
        )
    said = [predictor.note, untested_bags(datamodule, given | changes, splits)]
    if seen:
        said.append(
            f"{len(seen)} of the tested bags have the name of a training or validation bag of some fold (first: {seen[0]})"
        )
    return datamodule, "; ".join(filter(None, said))


def shift_of_folds(predictor: Predictor, predictions: Predictions, datamodule: BagDataModule) -> list[CohortShift]:
    """Return how the tested bags differ from the validation bags of all folds.

    Args:
        predictor: The folds.
        predictions: Predictions of the tested bags, with temperature and numbers as they are shown.
        datamodule: Their data.
    """
    validation, target = predictor.validation, target_of(predictor.card)
    assert validation is not None
    before = validation.answers
    if isinstance(target, ClassTarget) and predictor.card.temperature != 1:
        before = target.at_temperature(before, predictor.card.temperature)
    groups = datamodule.groups
    return cohort_shift(
        _as_columns(predictions.labels, predictor),
        predictions.probabilities.astype(np.float64),
        _as_columns(validation.labels, predictor),
        before,
        predictor.card.class_names,
        None if groups is None else np.array([str(groups[name]) for name in predictions.bag_ids]),
    )


def _as_columns(labels: NDArray[Any], predictor: Predictor) -> NDArray[np.float64]:
    """Return the labels as one column per class or number."""
    if not target_of(predictor.card).has_classes:
        return labels.astype(np.float64)
    return np.eye(len(predictor.card.class_names))[labels.astype(np.int64)]
