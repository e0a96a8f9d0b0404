"""Base class of targets without classes: the labels of a bag are numbers, and so are the predictions."""

from __future__ import annotations

from abc import abstractmethod
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any, Self

import numpy as np
from numpy.typing import NDArray

from milpath.metrics.weighted_metrics import metric_function
from milpath.records.plain_values import MAX_NUMBER
from milpath.targets.target import Array, Target

if TYPE_CHECKING:  # a network is loaded without pandas
    import pandas as pd

# A card is untrusted: longer lists of fitted values are refused.
MAX_VALUES = 100_000


class NumericTarget(Target):
    """A target whose labels are columns of numbers and whose predictions are named columns of numbers.

    A bag has no predicted class: there is no threshold, no temperature and no deferral. In the card of a checkpoint
    `class_names` holds the names of the predicted quantities. What the target fits on the training split is part of it
    (`fitted_on`) and is kept in the card (`state`, `with_state`).
    """

    has_classes = False

    @property
    @abstractmethod
    def names(self) -> tuple[str, ...]:
        """Names of the predicted quantities."""

    @property
    @abstractmethod
    def label_columns(self) -> tuple[str, ...]:
        """Names of the columns of the labels; in `predictions.csv` with the prefix `label_`."""

    @property
    @abstractmethod
    def answer_columns(self) -> tuple[str, ...]:
        """Columns of the predictions in `predictions.csv`, in the order of `answers`."""

    @property
    def spread_names(self) -> tuple[str, ...]:
        """Names of the first predictions of a bag whose spread between the folds of an average is shown."""
        return self.names

    @property
    @abstractmethod
    def units(self) -> tuple[str, ...]:
        """Unit of each column of the predictions; empty text if unknown or without a unit."""

    @abstractmethod
    def columns_of_table(self, column: str | None, default: str) -> tuple[str, ...]:
        """Return the columns of the label table that the labels are read from.

        Args:
            column: `data.label_column`, which replaces the only column of a target; `None` if it is not set.
            default: Column for a target that names none.
        """

    @property
    @abstractmethod
    def label_kinds(self) -> tuple[str, ...]:
        """Kind of each column of the labels: a key of `milpath.targets.columns.number_columns.READERS`."""

    @abstractmethod
    def named_after(self, columns: Sequence[str]) -> Self:
        """Return the target with its names taken from the columns of the table, unless it has names."""

    def read(self, bags: pd.DataFrame, columns: Sequence[str]) -> tuple[Self, Array]:
        """Return the target named after its columns, and the labels of bags, `(bags, label columns)`.

        Args:
            bags: One row per bag: `bag_id` and the columns.
            columns: Names in the table of `columns_of_table`.

        Raises:
            ValueError: If a label is missing or invalid.
        """
        from milpath.targets.columns.number_columns import READERS

        named = self.named_after(columns)
        labels = [READERS[kind](bags, column) for kind, column in zip(named.label_kinds, columns, strict=True)]
        return named, np.stack(labels, axis=1)

    def missing(self, bags: pd.DataFrame, columns: Sequence[str]) -> NDArray[np.bool_]:
        """Return which bags have no label, `(bags,)`: a cell of one of the columns is empty."""
        from milpath.targets.columns.class_words import missing_cells

        return np.asarray(np.stack([missing_cells(bags, column) for column in columns]).any(axis=0))

    @abstractmethod
    def strata(self, labels: Array) -> NDArray[np.int64]:
        """Return the stratum of each bag, `(bags,)` from 0, by which splits are balanced."""

    @property
    @abstractmethod
    def strata_names(self) -> tuple[str, ...]:
        """Name of each stratum, for messages."""

    @abstractmethod
    def require_trainable(self, labels: Array) -> None:
        """Refuse the labels of a training split from which nothing can be learnt.

        Args:
            labels: `(bags, label columns)` of the training split.

        Raises:
            ValueError: If all are equal, for example.
        """

    def fitted_on_predictions(self, logits: NDArray[np.float32], labels: Array) -> Self:
        """Return the target with what it fits on the training split after training, such as a baseline hazard.

        Args:
            logits: `(bags, num_outputs)` of the best network on the training split.
            labels: `(bags, label columns)`.
        """
        return self

    def decided_on(
        self,
        logits: NDArray[np.float32],
        labels: Array,
        sensitivity: float | None = None,
        calibrate: bool = False,
        defer_share: float = 0.0,
    ) -> Self:
        """Return the target with what is decided on the validation split after training; numbers decide nothing.

        Args:
            logits: `(bags, num_outputs)` of the best network on the validation split.
            labels: `(bags, label columns)`.
            sensitivity: As in `milpath.targets.decision.choose_decision`.
            calibrate: As there.
            defer_share: As there.
        """
        return self

    def in_cohort(self, labels: Array, answers: Array | None = None) -> Self:
        """Return the target with what its metrics estimate from other bags than those it is trained on, such as censoring.

        Args:
            labels: `(bags, label columns)` of these bags: those of another cohort, or the patients of the training slides.
            answers: `(bags, answer columns)` of the latter, which also cut bags into groups by what is predicted.
        """
        return self

    def mean_answers(self, answers: Array, patients: NDArray[np.int64]) -> Array:
        """Return the mean predictions over the slides of each patient, `(patients, answer columns)`.

        Args:
            answers: `(slides, answer columns)`.
            patients: `(slides,)` patient of each slide, from 0.
        """
        sums = np.stack([np.bincount(patients, column) for column in answers.T], axis=1)
        return np.asarray(sums / np.bincount(patients)[:, None])

    def num_labelled(self, labels: Array) -> dict[str, int]:
        """Return how many bags have a label of each target, if labels may be missing; otherwise empty."""
        return {}

    @property
    def call_columns(self) -> tuple[str, ...]:
        """Columns of predicted classes and deferrals, if there are classes among the predictions."""
        return ()

    def calls(self, answers: NDArray[np.floating]) -> tuple[str, ...]:
        """Return the cells of `call_columns` for the prediction of one bag, `(columns,)`."""
        return ()

    @abstractmethod
    def defined_metrics(self, labels: Array) -> tuple[str, ...]:
        """Return the metrics that validation logs and that are defined on the labels of a split.

        Args:
            labels: `(bags, label columns)` of the split.
        """

    def undefined_metrics(self, labels: Array) -> str:
        """Return a clause on the metrics that labels of a split do not define; empty if all are defined."""
        missing = [name for name in self.metric_names if name not in self.defined_metrics(labels)]
        return "" if not missing else f"{', '.join(missing)} {'is' if len(missing) == 1 else 'are'}"

    @abstractmethod
    def say(self, answers: Array) -> list[tuple[str, str]]:
        """Return the prediction of one bag as pairs of title and text with its unit, for people."""

    def metrics(self, outcomes: Any) -> dict[str, float | None]:
        names = self.reported_metrics
        with np.errstate(invalid="ignore"):
            values = {name: float(metric_function(name)(outcomes)) for name in names}
        return {name: value if np.isfinite(value) else None for name, value in values.items()}


def numbers_of_state(
    state: Mapping[str, Any],
    name: str,
    length: int | None = None,
    *,
    positive: bool = False,
    largest: float = MAX_NUMBER,
) -> list[float]:
    """Return a list of finite numbers of a card's `target_state`.

    Raises:
        ValueError: If it is missing, too long, of another length, or a number is not finite, beyond `largest`
            or not positive.
    """
    values = state.get(name)
    if (
        not isinstance(values, list | tuple)
        or len(values) > MAX_VALUES
        or (length is not None and len(values) != length)
        or not all(isinstance(value, int | float) and abs(value) <= largest for value in values)
        or (positive and not all(value > 0 for value in values))
    ):
        wanted = "finite" + (" positive" if positive else "") + f" numbers up to {largest:g}"
        raise ValueError(f"{name} in target_state of the card must be a list of {length or 'some'} {wanted}")
    return [float(value) for value in values]
