"""Names, columns and metrics of several targets side by side."""

from collections.abc import Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from milpath.targets.numeric_target import NumericTarget
from milpath.targets.several.member import Member
from milpath.targets.target import Array, ClassTarget


class SeveralColumns(NumericTarget):
    """The part of `Several` that says what stands where: labels, logits, predictions and metrics, target by target.

    Attributes:
        members: The targets.
    """

    members: tuple[Member, ...]

    @property
    def over_batch(self) -> bool:
        """Whether one of the losses compares bags with each other."""
        return any(member.target.over_batch for member in self.members)

    @property
    def metric_names(self) -> tuple[str, ...]:
        """The metrics of each target, with its name and a slash before them."""
        return tuple(f"{member.name}/{name}" for member in self.members for name in member.target.metric_names)

    @property
    def reported_metrics(self) -> tuple[str, ...]:
        """All metrics of each target, then user-defined ones of each."""
        own = (f"{member.name}/{name}" for member in self.members for name in member.target.reported_metrics)
        return tuple(dict.fromkeys((*self.metric_names, *own)))

    @property
    def headline(self) -> tuple[str, ...]:
        """The first metric of each target."""
        return tuple(f"{member.name}/{member.target.headline[0]}" for member in self.members)

    @property
    def subgroup_metrics(self) -> tuple[str, ...]:
        """The first metric of each target."""
        return tuple(f"{member.name}/{member.target.subgroup_metrics[0]}" for member in self.members)

    @property
    def names(self) -> tuple[str, ...]:
        return tuple(member.name for member in self.members)

    @property
    def label_columns(self) -> tuple[str, ...]:
        return tuple(name for member in self.members for name in member.label_columns)

    @property
    def label_kinds(self) -> tuple[str, ...]:
        return tuple(kind for member in self.members for kind in member.label_kinds)

    @property
    def answer_columns(self) -> tuple[str, ...]:
        return tuple(name for member in self.members for name in member.answer_columns)

    @property
    def units(self) -> tuple[str, ...]:
        return tuple(unit for member in self.members for unit in member.units)

    @property
    def decides(self) -> bool:
        return any(isinstance(member.target, ClassTarget) for member in self.members)

    @property
    def has_threshold(self) -> bool:
        return any(member.target.has_threshold for member in self.members)

    def columns_of_table(self, column: str | None, default: str) -> tuple[str, ...]:
        if not self.members:
            raise ValueError(
                f"data.task={self.name} names no targets; give target={self.name} with the options that do, such as "
                "target.targets={grade:ordinal,age:regression}, or target.columns=[a,b] of multilabel"
            )
        if column is not None:
            raise ValueError(
                f"data.label_column={column} is one column, but the targets are {', '.join(self.names)}; set "
                "data.label_column=null, and give each target its column"
            )
        return tuple(name for member in self.members for name in member.columns)

    def num_outputs(self, num_classes: int) -> int:
        if num_classes != len(self.members):
            raise ValueError(
                f"a {self.name} task of {', '.join(self.names) or 'no targets'} has {len(self.members)} targets, not "
                f"{num_classes}"
            )
        return sum(self._num_outputs)

    def outputs_per_target(self, num_classes: int) -> tuple[int, ...]:
        return self._num_outputs

    def map_names(self, class_names: Sequence[str]) -> Sequence[str]:
        return tuple(name for member in self.members for name in member.map_names)

    @property
    def call_columns(self) -> tuple[str, ...]:
        each = ((member, isinstance(member.target, ClassTarget)) for member in self.members)
        return tuple(f"{member.name}/{what}" for member, called in each if called for what in ("predicted", "defer"))

    @property
    def _num_outputs(self) -> tuple[int, ...]:
        return tuple(member.num_outputs for member in self.members)

    @property
    def _num_labels(self) -> tuple[int, ...]:
        return tuple(len(member.label_columns) for member in self.members)

    def _labels(self, labels: Array) -> list[Array]:
        return self._split(np.asarray(labels, dtype=np.float64), self._num_labels)

    def _answers(self, answers: Array) -> list[Array]:
        return self._split(answers, tuple(len(member.answer_columns) for member in self.members))

    @staticmethod
    def _split(values: NDArray[Any], widths: Sequence[int]) -> list[NDArray[Any]]:
        """Return the columns of each target."""
        return np.split(values, np.cumsum(widths)[:-1], axis=1)
