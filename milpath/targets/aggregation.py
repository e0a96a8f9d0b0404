"""Predictions of patients from those of their slides: the mean, or the slide with the highest."""

from collections.abc import Sequence
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from milpath.targets.numeric_target import NumericTarget
from milpath.targets.ordinal import Ordinal
from milpath.targets.target import ClassTarget, Target

AGGREGATES = ("mean", "max")


class Aggregated(NamedTuple):
    """Predictions of patients.

    Attributes:
        answers: `(patients, outputs)` probabilities of classes or predicted numbers.
        weights: `(slides,)` share of each slide in the answer of its patient; sums to 1 over the slides of a patient.
    """

    answers: NDArray[np.float64]
    weights: NDArray[np.float64]


def require_aggregate(aggregate: str | None, target: Target, num_outputs: int) -> None:
    """Refuse an unknown aggregation, or the highest of predictions that have no order.

    Args:
        aggregate: "mean", "max" or `None` for none.
        target: The target.
        num_outputs: Number of classes or of predicted numbers.

    Raises:
        ValueError: If it is unknown or does not fit the target.
    """
    if aggregate is None:
        return
    if aggregate not in AGGREGATES:
        raise ValueError(f"aggregate is {aggregate!r}; it must be one of {', '.join(AGGREGATES)}, or null")
    ordered = num_outputs == 2 or isinstance(target, Ordinal)
    if isinstance(target, NumericTarget):
        ordered = len(target.names) == 1
    if aggregate == "max" and not ordered:
        raise ValueError(
            f"aggregate=max takes the slide with the highest prediction, but {target.name} predictions of {num_outputs} "
            "values have no order; set aggregate=mean"
        )


def aggregated_answers(
    target: Target, answers: NDArray[Any], patients: NDArray[np.int64], aggregate: str
) -> Aggregated:
    """Return the predictions of patients.

    "mean" averages the probabilities, or numbers, of the slides of a patient; of survival the curves, and the median is that
    of the mean curve. "max" takes the prediction of one slide as it
    is: that with the highest probability of the second class, the highest expected grade, or the highest first number (the
    risk of a survival target); the first of several in a tie.

    Args:
        target: The target.
        answers: `(slides, outputs)` probabilities of classes, each row sums to 1, or predicted numbers.
        patients: `(slides,)` patient of each slide, from 0.
        aggregate: "mean" or "max".

    Example:
        >>> from milpath.targets import target_named
        >>> slides, patients = np.array([[0.9, 0.1], [0.5, 0.5], [0.2, 0.8]]), np.array([0, 0, 1])
        >>> aggregated_answers(target_named("binary"), slides, patients, "max").answers.tolist()
        [[0.5, 0.5], [0.2, 0.8]]
    """
    require_aggregate(aggregate, target, answers.shape[1])
    values = np.asarray(answers, np.float64)
    counts = np.bincount(patients)
    if aggregate == "mean":
        if isinstance(target, NumericTarget):
            found = target.mean_answers(values, patients)
        else:
            found = np.stack([np.bincount(patients, column) for column in values.T], axis=1) / counts[:, None]
        return Aggregated(found, 1 / counts[patients])
    score = values[:, 0] if isinstance(target, NumericTarget) else values @ np.arange(values.shape[1])
    order = np.lexsort([np.arange(len(score)), -score, patients])
    chosen = order[np.concatenate([[0], np.cumsum(counts)[:-1]])]
    weights = np.zeros(len(values))
    weights[chosen] = 1
    return Aggregated(values[chosen], weights)


def aggregated_by_fold(
    target: Target,
    each: NDArray[np.float64],
    patients: NDArray[np.int64],
    aggregate: str,
    temperatures: Sequence[float] = (),
) -> NDArray[np.float64]:
    """Return the predictions of patients by each fold of an average, `(patients, folds, columns)`.

    Args:
        target: As in `aggregated_answers`.
        each: `(slides, folds, columns)`, probabilities of classes at the temperature of each fold.
        patients: As in `aggregated_answers`.
        aggregate: As in `aggregated_answers`.
        temperatures: Temperature of each fold, without which probabilities of classes are put together; empty for 1.
    """
    found = []
    for fold, answers in enumerate(each.transpose(1, 0, 2)):
        if isinstance(target, ClassTarget) and temperatures and temperatures[fold] != 1:
            own = target.at_temperature(answers, 1 / temperatures[fold])
            own = aggregated_answers(target, own, patients, aggregate).answers
            found.append(target.at_temperature(own, temperatures[fold]))
        else:
            found.append(aggregated_answers(target, answers, patients, aggregate).answers)
    return np.stack(found, axis=1)


def mean_of_known(values: NDArray[np.float64], patients: NDArray[np.int64]) -> NDArray[np.float64]:
    """Return the mean over the slides of each patient that have a value, NaN where none has.

    Example:
        >>> mean_of_known(np.array([0.5, np.nan, np.nan]), np.array([0, 0, 1])).tolist()
        [0.5, nan]
    """
    known = np.isfinite(values)
    counts = np.bincount(patients, known)
    sums = np.bincount(patients, np.where(known, values, 0.0))
    return np.where(counts > 0, sums / np.maximum(counts, 1), np.nan)
