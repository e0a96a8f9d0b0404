"""The targets of a checkpoint that have prediction sets: the only one, or each of several that can have them."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Any, Protocol

import numpy as np
from numpy.typing import NDArray

from milpath.metrics.conformal import Conformal, CrossConformal
from milpath.records.plain_values import brief
from milpath.targets.registry import CardOfTarget, target_of
from milpath.targets.target import Array, Target

Sets = Conformal | CrossConformal
# Key of the states of several targets.
_TARGETS = "targets"


class CardOfSets(CardOfTarget, Protocol):
    """The fields of a checkpoint's card that define its prediction sets."""

    @property
    def class_names(self) -> Sequence[str]:
        """Names of the classes or numbers."""

    @property
    def conformal(self) -> Any:
        """State of the prediction sets."""


@dataclass(frozen=True)
class SetPart:
    """A target with prediction sets.

    Attributes:
        name: Name of one of several targets; empty if there is one.
        target: The target.
        names: Names of its classes or numbers.
        labels: Its columns of the labels.
        columns: Its columns of the predictions.
        sets: The fitted sets; `None` before they are.
    """

    name: str
    target: Target
    names: tuple[str, ...]
    labels: slice = field(default_factory=lambda: slice(None))
    columns: slice = field(default_factory=lambda: slice(None))
    sets: Sets | None = None

    @property
    def prefix(self) -> str:
        """Start of the names of its columns and metrics."""
        return f"{self.name}/" if self.name else ""

    def known(self, labels: NDArray[Any]) -> tuple[NDArray[np.int64], NDArray[Any]]:
        """Return the rows that have its label, and these labels as the target takes them."""
        if not self.name:
            return np.arange(len(labels)), labels
        own = np.asarray(labels, dtype=np.float64)[:, self.labels]
        rows = np.flatnonzero(~np.isnan(own).any(axis=1))
        return rows, own[rows, 0].astype(np.int64) if self.target.has_classes else own[rows]

    def of(self, answers: NDArray[np.floating]) -> Array:
        """Return what its sets are made of, from all predictions `(..., columns)`."""
        return self.target.set_answers(np.asarray(answers, dtype=np.float64)[..., self.columns])


def set_parts(target: Target, names: Sequence[str]) -> list[SetPart]:
    """Return the targets that can have prediction sets, without sets; empty if there are none.

    Args:
        target: The target of a checkpoint.
        names: Names of its classes or numbers.
    """
    members = getattr(target, "members", None)
    if members is None:
        return [SetPart("", target, tuple(names))] if target.set_kind is not None else []
    parts, label, column = [], 0, 0
    for member in members:
        labels = slice(label, label + len(member.label_columns))
        columns = slice(column, column + len(member.answer_columns))
        if member.target.set_kind is not None:
            parts.append(SetPart(member.name, member.target, tuple(member.class_names), labels, columns))
        label, column = labels.stop, columns.stop
    return parts


def fitted_parts(card: CardOfSets) -> list[SetPart]:
    """Return the targets of a checkpoint with their sets; empty if it was trained without.

    Raises:
        ValueError: If a value of the card is invalid.
    """
    if not card.conformal:
        return []
    target = target_of(card)
    parts = set_parts(target, card.class_names)
    if not hasattr(target, "members"):
        state = card.conformal
        kind = CrossConformal if "scores" in state else Conformal
        if not parts:
            kind.of_state(state, None, len(card.class_names))  # refuses it
        return [replace(part, sets=_of_state(state, part)) for part in parts]
    states = card.conformal.get(_TARGETS)
    if not isinstance(states, Mapping) or set(states) - {part.name for part in parts}:
        raise ValueError(f"conformal of the card is {brief(card.conformal)}, which does not fit its targets")
    return [replace(part, sets=_of_state(states[part.name], part)) for part in parts if part.name in states]


def state_of_sets(fitted: Mapping[str, Sets]) -> dict[str, Any]:
    """Return the plain values of fitted sets, by the name of their target (empty if there is one)."""
    states = {name: sets.state() for name, sets in fitted.items()}
    return states.get("", {_TARGETS: states})


def _of_state(state: Any, part: SetPart) -> Sets | None:
    if not isinstance(state, Mapping):
        raise ValueError(f"conformal of the card is {brief(state)}, which is invalid here")
    kind: Any = CrossConformal if "scores" in state else Conformal
    found: Sets | None = kind.of_state(state, part.target.set_kind, len(part.names))
    return found
