"""Several targets at once: one network, one loss, and answers and metrics of each target."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import replace
from typing import TYPE_CHECKING, Any, Self

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from milpath.metrics.evaluated_several import EvaluatedSeveral
from milpath.metrics.intervals import Interval
from milpath.targets.numeric_target import NumericTarget
from milpath.targets.several.averaged_members import AveragedMembers
from milpath.targets.several.class_members import (
    answer_in_words,
    answers_in_words,
    choose_member_decision,
    defined_of_classes,
    label_in_words,
)
from milpath.targets.several.member import Member
from milpath.targets.several.member_options import members_of_options
from milpath.targets.several.several_state import members_of_state, state_of_members
from milpath.targets.target import Array

if TYPE_CHECKING:
    import pandas as pd


class Several(AveragedMembers):
    """Several targets of one network, of any kind; a label may be missing.

    The loss of a bag is `sum_t w_t / p_t * loss_t`, over the targets t of which it has a label, with the weight `w_t` and
    the share `p_t` of training bags that have the label. Over the training split this is the weighted sum of the mean of
    each loss over the labels that are present. It is a sum over bags, so the batch, gradient accumulation and the number of
    processes do not change it; the partial likelihood of "cox" compares the bags of a step, as it does by itself.

    Labels, logits and predictions are those of the targets side by side, in their order; a missing label is NaN. Metrics,
    intervals, thresholds, temperatures and deferrals are those of each target on the bags that have its label.

    Args:
        targets: Name of each target to its kind, such as "ordinal", or to a mapping of `task` (the kind), `column` (`None`
            means its name; survival has `time_column` and `event_column`), `class_names` and the options of the kind.
        weights: Name of a target to the weight of its loss, > 0; 1 where there is none.

    Raises:
        ValueError: If a target or one of its options is unknown or invalid.

    Example:
        >>> target = Several({"grade": "ordinal", "age": {"task": "regression", "units": ["years"]}})
        >>> target.columns_of_table(None, "label"), target.names
        (('grade', 'age'), ('grade', 'age'))
    """

    name = "several"
    wrongness_title = "Highest rank of an error"

    def __init__(self, targets: Mapping[str, Any] | None = None, weights: Mapping[str, float] | None = None) -> None:
        self.members = members_of_options(targets or {}, weights or {})

    def named_after(self, columns: Sequence[str]) -> Self:
        return self

    def read(self, bags: pd.DataFrame, columns: Sequence[str]) -> tuple[Self, Array]:
        """Return the target with the classes of its columns, and the labels, NaN where they are missing.

        Raises:
            ValueError: If a bag has no label at all, no bag has one of a target, or a cell is invalid.
        """
        if (missing := self.missing(bags, columns)).any():
            from milpath.records.label_table import rows_of

            raise ValueError(
                f"{int(missing.sum()):,} of {len(bags):,} slides have no label of any target ({', '.join(self.names)}): "
                f"slide {rows_of(bags, missing)}; fill them in, or leave such slides out with data.on_missing_label=skip"
            )
        read = [member.read(bags, own) for member, own in self._columns_of_members(columns)]
        return self._with([member for member, _ in read]), np.concatenate([labels for _, labels in read], axis=1)

    def missing(self, bags: pd.DataFrame, columns: Sequence[str]) -> NDArray[np.bool_]:
        """Return which bags have a label of none of the targets, `(bags,)`."""
        each = [member.missing(bags, own) for member, own in self._columns_of_members(columns)]
        return np.asarray(np.stack(each).all(axis=0))

    def strata(self, labels: Array) -> NDArray[np.int64]:
        """Return the stratum of each bag by the first target; bags without its label belong to the largest one."""
        member, own = next(self._with_labels(labels))
        rows, known = member.known(own)
        strata = known if not isinstance(member.target, NumericTarget) else member.target.strata(known)
        found = np.full(len(labels), np.bincount(strata).argmax() if len(strata) else 0, dtype=np.int64)
        found[rows] = strata
        return found

    @property
    def strata_names(self) -> tuple[str, ...]:
        first = self.members[0]
        return first.target.strata_names if isinstance(first.target, NumericTarget) else first.class_names

    def require_trainable(self, labels: Array) -> None:
        for member, own in self._with_labels(labels):
            member.fitted_on(own)

    def fitted_on(self, labels: NDArray[Any]) -> Self:
        return self._with([member.fitted_on(own) for member, own in self._with_labels(labels)])

    def fitted_on_predictions(self, logits: NDArray[np.float32], labels: Array) -> Self:
        parts = zip(self.members, self._split(logits, self._num_outputs), self._labels(labels), strict=True)
        return self._with([member.fitted_on_predictions(z, own) for member, z, own in parts])

    def decided_on(
        self,
        logits: NDArray[np.float32],
        labels: Array,
        sensitivity: float | None = None,
        calibrate: bool = False,
        defer_share: float = 0.0,
    ) -> Self:
        """Return the target with threshold, temperature and deferral of each target with classes; see `NumericTarget`.

        Raises:
            ValueError: If a sensitivity or a temperature is asked and the labels of a target do not allow it.
        """
        parts = zip(self.members, self._split(logits, self._num_outputs), self._labels(labels), strict=True)
        return self._with(
            [choose_member_decision(member, z, own, sensitivity, calibrate, defer_share) for member, z, own in parts]
        )

    def decided_on_answers(
        self, labels: Array, answers: Array, sensitivity: float | None, calibrate: bool, defer_share: float
    ) -> Self:
        """Return the target with the decision of each target with classes, chosen from predictions at temperature 1.

        Args:
            labels: `(bags, label columns)`.
            answers: `(bags, answer columns)`.
            sensitivity: As in `decided_on`.
            calibrate: As in `decided_on`.
            defer_share: As in `decided_on`.
        """
        return self._with(
            [
                choose_member_decision(member, None, own, sensitivity, calibrate, defer_share, answers=given)
                for member, own, given in self.parts_of(labels, answers)
            ]
        )

    def deferring_all(self) -> Self:
        return self._with(
            [replace(member, decision=replace(member.decision, defer_all=True)) for member in self.members]
        )

    def decided_by_patient(self, labels: Array, answers: Array, sensitivity: float | None, defer_share: float) -> Self:
        """Return the target with threshold and deferral chosen from predictions of patients; temperatures stay.

        Args:
            labels: `(patients, label columns)`.
            answers: `(patients, answer columns)`, put together from slides at the temperature of each target.
            sensitivity: As in `decided_on`.
            defer_share: As in `decided_on`.
        """
        chosen = self.decided_on_answers(labels, answers, sensitivity, False, defer_share).members
        decided = [
            replace(new, decision=replace(new.decision, temperature=old.decision.temperature))
            for new, old in zip(chosen, self.members, strict=True)
        ]
        return self._with(decided)

    def in_cohort(self, labels: Array, answers: Array | None = None) -> Self:
        each = [None] * len(self.members) if answers is None else self._answers(answers)
        parts = zip(self._with_labels(labels), each, strict=True)
        return self._with([member.in_cohort(own, given) for (member, own), given in parts])

    def mean_answers(self, answers: Array, patients: NDArray[np.int64]) -> Array:
        found = super().mean_answers(answers, patients)
        parts = zip(self.members, self._answers(answers), self._answers(found), strict=True)
        each = [
            member.target.mean_answers(own, patients) if isinstance(member.target, NumericTarget) else mean
            for member, own, mean in parts
        ]
        return np.concatenate(each, axis=1)

    def num_labelled(self, labels: Array) -> dict[str, int]:
        return {member.name: len(member.known(own)[0]) for member, own in self._with_labels(labels)}

    def state(self) -> dict[str, Any]:
        return {"targets": state_of_members(self.members)}

    def with_state(self, state: Mapping[str, Any]) -> Self:
        return self._with(members_of_state(state.get("targets")))

    def losses(self, logits: Tensor, labels: Tensor) -> Tensor:
        parts = zip(self.members, logits.split(self._num_outputs, 1), labels.split(self._num_labels, 1), strict=True)
        return torch.stack([member.losses(z, own) for member, z, own in parts]).sum(0)

    def answers(self, logits: Tensor, temperature: float = 1.0) -> Tensor:
        parts = zip(self.members, logits.split(self._num_outputs, 1), strict=True)
        return torch.cat([member.answers(z) for member, z in parts], 1)

    def evaluate(
        self, labels: NDArray[Any], answers: Array, threshold: float = 0.5, groups: NDArray[np.str_] | None = None
    ) -> EvaluatedSeveral:
        labels, answers = np.asarray(labels, dtype=np.float64), np.asarray(answers, dtype=np.float64)
        wanted = (len(self.label_columns), len(self.answer_columns))
        if labels.ndim != 2 or answers.ndim != 2 or (labels.shape[1], answers.shape[1]) != wanted:
            raise ValueError(
                f"expected labels (bags, {wanted[0]}) and predictions (bags, {wanted[1]}) of {', '.join(self.names)}, got "
                f"{labels.shape} and {answers.shape}"
            )
        if len(labels) != len(answers):
            raise ValueError(f"{len(labels)} bags have labels, but {len(answers)} have predictions")
        parts = zip(self.members, self._labels(labels), self._answers(answers), strict=True)
        found = {member.name: member.evaluate(own, given, groups) for member, own, given in parts}
        rows = {name: own for name, (own, _) in found.items()}
        return EvaluatedSeveral({name: each for name, (_, each) in found.items()}, rows, len(labels), groups)

    def metrics(self, outcomes: EvaluatedSeveral) -> dict[str, float | None]:
        values: dict[str, float | None] = {}
        for member in self.members:
            own = outcomes.of(member.name)
            each = member.target.metrics(own) if own.num_bags else dict.fromkeys(member.target.reported_metrics)
            values |= {f"{member.name}/{name}": value for name, value in each.items()}
        values |= self._over_members(values)
        return {name: values[name] for name in self.reported_metrics}

    def _over_members(self, values: Mapping[str, float | None]) -> dict[str, float | None]:
        """Return the metrics over all targets from those of each; targets of any kind have none in common."""
        return {}

    def defined_metrics(self, labels: Array) -> tuple[str, ...]:
        defined: list[str] = []
        for member, own in self._with_labels(labels):
            rows, known = member.known(own)
            if not len(rows):
                continue
            if isinstance(member.target, NumericTarget):
                names = list(member.target.defined_metrics(known))
            else:
                names = defined_of_classes(member, known)
            defined += [f"{member.name}/{name}" for name in names]
        return tuple(defined)

    def wrongness(self, outcomes: EvaluatedSeveral) -> Array:
        """Return the highest rank of an error of a bag among those of each target, from 0 to 1 of the largest."""
        highest = np.zeros(outcomes.num_bags)
        for member in self.members:
            own = outcomes.of(member.name)
            if own.num_bags:
                errors = member.target.wrongness(own)
                ranks = np.searchsorted(np.sort(errors), errors, side="right") / len(errors)
                rows = outcomes.rows[member.name]
                highest[rows] = np.maximum(highest[rows], np.where(errors > 0, ranks, 0.0))
        return highest

    def sentence(
        self, outcomes: EvaluatedSeveral, where: str, class_names: Sequence[str], intervals: Mapping[str, Interval]
    ) -> str:
        counts = ", ".join(f"{outcomes.of(name).num_bags:,} have a label of {name}" for name in self.names)
        return f"{where}, {counts}."

    def say(self, answers: Array) -> list[tuple[str, str]]:
        parts = zip(self.members, self._answers(np.atleast_2d(answers)), strict=True)
        return [row for member, own in parts for row in answers_in_words(member, own)]

    def in_words(self, labels: Array, answers: Array) -> list[tuple[str, str]]:
        """Return label and prediction of each target for one bag as short texts; a missing label is empty."""
        parts = zip(
            self.members, self._labels(np.atleast_2d(labels)), self._answers(np.atleast_2d(answers)), strict=True
        )
        return [(label_in_words(member, own), answer_in_words(member, given)) for member, own, given in parts]

    def calls(self, answers: NDArray[np.floating]) -> tuple[str, ...]:
        cells: list[str] = []
        for member, own in zip(self.members, self._answers(np.atleast_2d(answers)), strict=True):
            if (calls := member.calls(np.asarray(own, dtype=np.float64))) is not None:
                cells += [member.class_names[calls.predicted[0]], str(int(calls.deferred[0]))]
        return tuple(cells)

    def _with_labels(self, labels: Array) -> Iterator[tuple[Member, Array]]:
        return zip(self.members, self._labels(labels), strict=True)

    def _columns_of_members(self, columns: Sequence[str]) -> list[tuple[Member, tuple[str, ...]]]:
        """Return each target with the names of its columns in a table."""
        names = iter(columns)
        return [(member, tuple(next(names) for _ in member.columns)) for member in self.members]
