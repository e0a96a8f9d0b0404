"""One of several targets: its columns, its share of the logits and its loss over the bags that have its label."""

from __future__ import annotations

from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING, Any, Self

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from milpath.metrics.evaluated_bags import Outcomes
from milpath.targets.decision import Calls, Decision, decide
from milpath.targets.numeric_target import NumericTarget
from milpath.targets.target import Array, ClassTarget, Target

if TYPE_CHECKING:
    import pandas as pd


@dataclass(frozen=True)
class Member:
    """A target among several.

    Attributes:
        name: Its name, the prefix of its metrics and columns.
        target: The target, with what it fitted.
        columns: Columns of the label table that its labels are read from.
        class_names: Names of its classes, or of the quantities it predicts; empty until they are read from a table.
        weight: Weight of its loss, > 0.
        share: Share of the training bags that have its label, in (0, 1]; `None` until it is fitted.
        decision: Threshold, temperature and deferral of a target with classes.
        option: Option that names its classes, for messages.
        origin: Where the names of the classes come from, once they are read: "sorted", or the option.
    """

    name: str
    target: Target
    columns: tuple[str, ...]
    class_names: tuple[str, ...] = ()
    weight: float = 1.0
    share: float | None = None
    decision: Decision = field(default_factory=Decision)
    option: str = "class_names"
    origin: str = ""

    @property
    def num_outputs(self) -> int:
        """Number of logits."""
        if not self.class_names:
            raise RuntimeError(f"the classes of the target {self.name!r} are not known yet; read its labels first")
        return self.target.num_outputs(len(self.class_names))

    @property
    def label_columns(self) -> tuple[str, ...]:
        """Names of its labels: its own name, or with the name of each of several columns."""
        if not isinstance(self.target, NumericTarget) or len(self.target.label_columns) == 1:
            return (self.name,)
        return tuple(f"{self.name}/{column}" for column in self.target.label_columns)

    @property
    def label_kinds(self) -> tuple[str, ...]:
        """Kind of each of its labels: "class", or as in `NumericTarget.label_kinds`."""
        return self.target.label_kinds if isinstance(self.target, NumericTarget) else ("class",)

    @property
    def answer_columns(self) -> tuple[str, ...]:
        """Names of its predictions."""
        if isinstance(self.target, NumericTarget):
            return tuple(f"{self.name}/{column}" for column in self.target.answer_columns)
        return tuple(f"{self.name}/probability_{name}" for name in self.class_names)

    @property
    def units(self) -> tuple[str, ...]:
        """Unit of each prediction; empty for a probability."""
        return self.target.units if isinstance(self.target, NumericTarget) else ("",) * len(self.class_names)

    @property
    def map_names(self) -> tuple[str, ...]:
        """Name of the map of each logit."""
        names, count = tuple(self.target.map_names(self.class_names)), self.num_outputs
        of_classes = isinstance(self.target, ClassTarget)
        if len(names) == 1 or (of_classes and count == 1):
            return (self.name,)
        if of_classes and count == len(names) - 1:
            names = tuple(f"above {name}" for name in names[:-1])
        return tuple(f"{self.name}/{name}" for name in names)

    def read(self, bags: pd.DataFrame, columns: tuple[str, ...]) -> tuple[Self, Array]:
        """Return the member with its classes, and its labels `(bags, label columns)`, NaN where one of them is missing.

        Raises:
            ValueError: If no bag has a label, or a cell is invalid.
        """
        present = ~self.missing(bags, columns)
        if not present.any():
            raise ValueError(f"no bag has a label of the target {self.name!r} (column {', '.join(map(repr, columns))})")
        own = bags[present]
        known: Target = self.target
        if isinstance(known, NumericTarget):
            known, values = known.read(own, columns)
            names = known.names
        else:
            labels, names = self._read_classes(own, columns[0])
            values = labels[:, None].astype(np.float64)
        read = np.full((len(bags), values.shape[1]), np.nan)
        read[present] = values
        return replace(self, target=known, columns=columns, class_names=tuple(names), origin=self._origin), read

    @property
    def _origin(self) -> str:
        return self.origin or (self.option if self.class_names else "sorted")

    def _read_classes(self, bags: pd.DataFrame, column: str) -> tuple[NDArray[np.int64], tuple[str, ...]]:
        """Return the class of each bag and the names of the classes."""
        from milpath.targets.columns.class_words import say_classes
        from milpath.targets.columns.label_columns import bag_labels

        try:
            self._require_number_of_classes(bags, column)
            labels, names = bag_labels(bags, "label", self.class_names or None, column=column, say=False)
            self.target.num_outputs(len(names))
        except ValueError as error:
            text = str(error).replace("data.class_names", self.option).replace("data.label_column=", "column=")
            raise ValueError(f"target {self.name!r}: {text}") from None
        say_classes(column, names, self._origin, self.option)
        return labels, names

    def _require_number_of_classes(self, bags: pd.DataFrame, column: str) -> None:
        """Refuse a column with more words than the target has classes, with the bags of the rarest word."""
        from milpath.targets.columns.class_words import count_words

        num_words, said = count_words(bags, column)
        if self.class_names or num_words < 3:
            return
        try:
            self.target.num_outputs(num_words)
        except ValueError as error:
            reason, _, hint = str(error).partition("; ")
            raise ValueError(
                f"{reason}: {said}; correct the table, empty the cell{f', or {hint} in target=several' * bool(hint)}"
            ) from None

    def missing(self, bags: pd.DataFrame, columns: tuple[str, ...]) -> NDArray[np.bool_]:
        """Return which bags lack a label in one of the columns, `(bags,)`."""
        from milpath.targets.columns.class_words import missing_cells

        return np.asarray(np.stack([missing_cells(bags, column, self.class_names) for column in columns]).any(axis=0))

    def known(self, labels: Array) -> tuple[NDArray[np.int64], NDArray[Any]]:
        """Return the rows that have a label, and these labels as the target takes them."""
        rows = np.flatnonzero(~np.isnan(labels).any(axis=1))
        own = labels[rows]
        return rows, own if isinstance(self.target, NumericTarget) else own[:, 0].astype(np.int64)

    def fitted_on(self, labels: Array) -> Self:
        """Return the member fitted on the labels of the training split.

        Raises:
            ValueError: If no bag has a label, or nothing can be learnt from them.
        """
        rows, own = self.known(labels)
        if not len(rows):
            raise ValueError(
                f"none of {len(labels):,} training bags has a label of the target {self.name!r}; check column "
                f"{', '.join(map(repr, self.columns))}, or leave the target out"
            )
        if isinstance(self.target, ClassTarget) and len(found := np.unique(own)) < 2:
            raise ValueError(
                f"the {len(rows):,} training bags with a label of the target {self.name!r} are all "
                f"{self.class_names[found[0]]!r}, but training needs two classes; check column {self.columns[0]!r}"
            )
        try:
            target = self.target.fitted_on(own)
        except ValueError as error:
            raise ValueError(f"target {self.name!r}: {error}") from None
        return replace(self, target=target, share=len(rows) / len(labels))

    def fitted_on_predictions(self, logits: NDArray[np.float32], labels: Array) -> Self:
        """Return the member with what it fits on the training split after training."""
        if not isinstance(self.target, NumericTarget):
            return self
        rows, own = self.known(labels)
        return replace(self, target=self.target.fitted_on_predictions(logits[rows], own))

    def in_cohort(self, labels: Array, answers: Array | None = None) -> Self:
        """Return the member with what its metrics estimate from other bags; see `NumericTarget`."""
        rows, own = self.known(labels)
        if not isinstance(self.target, NumericTarget) or not len(own):
            return self
        return replace(self, target=self.target.in_cohort(own, None if answers is None else answers[rows]))

    def losses(self, logits: Tensor, labels: Tensor) -> Tensor:
        """Return `weight / share * loss` of each bag, 0 without a label; `(bags,)`."""
        if self.share is None:
            raise RuntimeError("call fitted_on with the labels of the training split first")
        present = ~torch.isnan(labels).any(1)
        if self.target.over_batch:
            rows = present.nonzero()[:, 0]
            own = self.target.losses(logits[rows], labels[rows])
            losses = own.new_zeros(len(logits)).index_put((rows,), own)
        else:
            # A zero is a valid label of every kind; reading how many are present would wait for a GPU.
            filled = torch.where(present[:, None], labels, 0.0)
            of_classes = not isinstance(self.target, NumericTarget)
            own = self.target.losses(logits, filled[:, 0].long() if of_classes else filled)
            losses = torch.where(present, own, 0.0)
        return self.weight / self.share * losses

    def answers(self, logits: Tensor) -> Tensor:
        """Return its predictions, `(bags, answer columns)`."""
        return self.target.answers(logits, self.decision.temperature)

    def evaluate(
        self, labels: Array, answers: Array, groups: NDArray[np.str_] | None
    ) -> tuple[NDArray[np.int64], Outcomes]:
        """Return the rows that have a label and their outcomes."""
        rows, own = self.known(labels)
        chosen = None if groups is None else groups[rows]
        return rows, self.target.evaluate(own, answers[rows], self.decision.threshold, chosen)

    def calls(self, answers: Array) -> Calls | None:
        """Return predicted classes and deferrals of bags, `None` without classes."""
        if not isinstance(self.target, ClassTarget):
            return None
        return decide(answers, self.target.name, replace(self.decision, temperature=1.0))
