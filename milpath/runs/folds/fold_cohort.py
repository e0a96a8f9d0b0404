"""Other data on which the folds of a cross-validation are tested together."""

from collections.abc import Collection, Mapping, Sequence
from typing import Any, cast

import numpy as np
from numpy.typing import NDArray
from omegaconf import DictConfig, OmegaConf

from milpath.data.datamodule import BagDataModule
from milpath.inference.ensemble import Predictor
from milpath.inference.ensemble.pooled_validation import trained_on
from milpath.metrics.cohort_shift import CohortShift, cohort_shift, survival_shift
from milpath.records.prediction_table import Predictions
from milpath.runs.evaluation.evaluated_data import data_with_split, typed_split, untested_bags
from milpath.runs.evaluation.evaluation_options import require_named_data
from milpath.targets import ClassTarget, Several, Survival, Target, target_of


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
    require_named_data(data)
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


def shift_of_folds(
    predictor: Predictor, predictions: Predictions, groups: Mapping[str, str] | None
) -> list[CohortShift]:
    """Return how the tested bags differ from the validation bags of all folds.

    Args:
        predictor: The folds.
        predictions: Predictions of the tested bags, with temperature and numbers as they are shown.
        groups: Bag to patient; `None` if all bags are independent.
    """
    validation, target, names = predictor.validation, target_of(predictor.card), predictor.card.class_names
    assert validation is not None
    answers, before = predictions.probabilities.astype(np.float64), validation.answers
    of_bags = None if groups is None else np.array([str(groups[name]) for name in predictions.bag_ids])
    if not isinstance(target, Several):
        if isinstance(target, ClassTarget) and predictor.card.temperature != 1:
            before = target.at_temperature(before, predictor.card.temperature)
        return _shift(target, names, names, predictions.labels, answers, validation.labels, before, of_bags)
    rows: list[CohortShift] = []
    parts = zip(target.parts_of(predictions.labels, answers), target.parts_of(validation.labels, before), strict=True)
    for (member, own, given), (_, own_before, given_before) in parts:
        (chosen, labels), (chosen_before, labels_before) = member.known(own), member.known(own_before)
        if not len(chosen) or not len(chosen_before):
            continue
        answers_before = given_before[chosen_before]
        if isinstance(member.target, ClassTarget) and member.decision.temperature != 1:
            answers_before = member.target.at_temperature(answers_before, member.decision.temperature)
        shifted = [f"{member.name}/{name}" for name in _shifted(member.target, member.class_names)]
        rows += _shift(
            member.target, member.class_names, shifted, labels, given[chosen], labels_before, answers_before,
            None if of_bags is None else of_bags[chosen],
        )  # fmt: skip
    return rows


def _shifted(target: Target, class_names: Sequence[str]) -> Sequence[str]:
    """Return what shifts: classes, numbers, or survival at some times."""
    if not isinstance(target, Survival):
        return class_names
    return [name for name in target.answer_columns if name.startswith("survival_at_")]


def _shift(
    target: Target,
    class_names: Sequence[str],
    names: Sequence[str],
    labels: NDArray[Any],
    answers: NDArray[np.float64],
    labels_before: NDArray[Any],
    answers_before: NDArray[np.float64],
    groups: NDArray[np.str_] | None,
) -> list[CohortShift]:
    """Return the shift of one target."""
    if isinstance(target, Survival):
        at = slice(1, 1 + len(target.times))
        return survival_shift(
            target.times, (labels[:, 0], labels[:, 1] == 1, answers[:, at]),
            (labels_before[:, 0], labels_before[:, 1] == 1, answers_before[:, at]),
            _shifted(target, class_names) if names is class_names else names, groups,
        )  # fmt: skip
    if target.has_classes:
        one_hot = np.eye(len(class_names))
        return cohort_shift(
            one_hot[labels.astype(np.int64)],
            answers,
            one_hot[labels_before.astype(np.int64)],
            answers_before,
            names,
            groups,
        )
    return cohort_shift(labels, answers, labels_before, answers_before, names, groups)
