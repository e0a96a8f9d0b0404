"""The decision made on the validation split: temperature, threshold and deferral."""

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import partial
from typing import Protocol, Self

import numpy as np
from numpy.typing import NDArray

from milpath.targets.registry import class_target_named

Array = NDArray[np.float64]


class CardOfDecision(Protocol):
    """The fields of a checkpoint's card that define a decision."""

    @property
    def threshold(self) -> float:
        """As in `Decision`."""

    @property
    def temperature(self) -> float:
        """As in `Decision`."""

    @property
    def defer_below(self) -> float:
        """As in `Decision`."""

    @property
    def warning(self) -> str:
        """What the training data say against themselves; empty for tissue."""


@dataclass(frozen=True)
class Decision:
    """How probabilities become predicted classes and deferrals.

    Attributes:
        threshold: A bag of a binary task with at least this probability is predicted as class 1.
        temperature: Divides the logits first.
        defer_below: A bag whose largest class probability is below it is deferred to a person; 0 defers none.
        defer_all: Whether every bag is deferred, however certain: the network says nothing about real tissue.

    Raises:
        ValueError: If one of them is out of range or not finite.
    """

    threshold: float = 0.5
    temperature: float = 1.0
    defer_below: float = 0.0
    defer_all: bool = False

    def __post_init__(self) -> None:
        for name in ("threshold", "defer_below"):
            if not 0 <= (value := getattr(self, name)) <= 1:
                raise ValueError(f"{name} of a decision must be in [0, 1], got {value}")
        if not 0 < self.temperature < math.inf:
            raise ValueError(f"temperature of a decision must be positive and finite, got {self.temperature}")

    @classmethod
    def of_card(cls, card: CardOfDecision) -> Self:
        """Return the decision of a checkpoint for probabilities that already include its temperature."""
        return cls(card.threshold, 1.0, card.defer_below, bool(card.warning))


@dataclass(frozen=True)
class Calls:
    """The result of a decision.

    Attributes:
        probabilities: `(bags, classes)` after the temperature.
        predicted: int64 `(bags,)`.
        deferred: bool `(bags,)`.
    """

    probabilities: Array
    predicted: NDArray[np.int64]
    deferred: NDArray[np.bool_]


def say_other_decision(card: CardOfDecision, chosen_on: str | None, aggregate: str | None) -> str:
    """Return that a decision was chosen for other predictions than those it is used for; empty if it was not, or by none.

    Args:
        card: Card of the checkpoint.
        chosen_on: How predictions of slides became those of patients when it was chosen; `None` if they did not.
        aggregate: Likewise of the predictions it is used for.
    """
    if chosen_on == aggregate or (card.threshold, card.temperature, card.defer_below) == (0.5, 1.0, 0.0):
        return ""
    made, used = (f"patients with aggregate={each}" if each else "single bags" for each in (chosen_on, aggregate))
    return f"threshold, temperature and deferral were chosen on {made} and are used for {used}: they may not fit these"


def choose_decision(
    labels: NDArray[np.int64],
    probabilities: Array,
    task: str,
    sensitivity: float | None = None,
    calibrate: bool = True,
    defer_share: float = 0.0,
    at_temperature: Callable[[float], Array] | None = None,
) -> Decision:
    """Choose temperature, then threshold, then deferral on the validation split.

    Args:
        labels: `(bags,)` of the validation split.
        probabilities: `(bags, classes)` at temperature 1.
        task: "binary", "nominal" or "ordinal".
        sensitivity: Target sensitivity of a binary task in (0, 1]; `None` keeps the threshold at 0.5.
        calibrate: Whether to fit a temperature; otherwise it is 1.
        defer_share: Share of validation bags to defer, the least certain ones; in [0, 1).
        at_temperature: Temperature to probabilities `(bags, classes)`, from logits; `None` recovers the logits from the
            probabilities, which loses those beyond about 17.

    Raises:
        ValueError: If a target sensitivity is given for a task that is not binary, the validation split cannot provide
            it, or a probability is not finite.
    """
    # Imported here because an endpoint calls `decide` and has no scipy.
    from milpath.metrics.calibration import fit_temperature
    from milpath.metrics.deferral import defer_threshold
    from milpath.metrics.operating_point import threshold_for_sensitivity

    target = class_target_named(task)
    if sensitivity is not None and not target.has_threshold:
        raise ValueError(f"a target sensitivity needs a binary task, not a {task} one; leave it out")
    _require_finite(probabilities)
    labels = np.asarray(labels, dtype=np.int64)
    scaled = at_temperature or partial(target.at_temperature, probabilities)
    temperature = fit_temperature(labels, scaled) if calibrate else 1.0
    calibrated = scaled(temperature)
    threshold = 0.5 if sensitivity is None else threshold_for_sensitivity(labels, calibrated[:, 1], sensitivity)
    return Decision(threshold, temperature, defer_threshold(calibrated.max(axis=1), defer_share))


def decide(probabilities: Array, task: str, decision: Decision, unfamiliar: NDArray[np.bool_] | bool = False) -> Calls:
    """Apply a decision to probabilities at temperature 1: the only place where bags are classified.

    Args:
        probabilities: `(bags, classes)`.
        task: Name of the target.
        decision: The decision.
        unfamiliar: Whether each bag is above the bound of unfamiliarity, which defers it however certain it is.

    Raises:
        ValueError: If a probability is not finite.

    Example:
        >>> calls = decide(np.array([[0.8, 0.2], [0.55, 0.45]]), "binary", Decision(threshold=0.4, defer_below=0.6))
        >>> calls.predicted.tolist(), calls.deferred.tolist()
        ([0, 1], [False, True])
    """
    _require_finite(probabilities)
    target = class_target_named(task)
    if decision.temperature != 1.0:
        probabilities = target.at_temperature(probabilities, decision.temperature)
    return Calls(
        probabilities=probabilities,
        predicted=target.predicted_classes(probabilities, decision.threshold),
        deferred=(probabilities.max(axis=1) < decision.defer_below) | decision.defer_all | np.asarray(unfamiliar, bool),
    )


def deferred_cells(columns: Sequence[str], cells: Sequence[str], unfamiliar: bool) -> Sequence[str]:
    """Return the cells of predicted classes and deferrals of several targets; an unfamiliar bag is deferred for each.

    Example:
        >>> deferred_cells(["grade/predicted", "grade/defer"], ["high", "0"], unfamiliar=True)
        ['high', '1']
    """
    if not unfamiliar:
        return cells
    return ["1" if name.endswith("/defer") else cell for name, cell in zip(columns, cells, strict=True)]


def _require_finite(probabilities: Array) -> None:
    """Refuse probabilities that are not finite: NaN compares as below every threshold."""
    if not (finite := np.isfinite(probabilities).all(axis=1)).all():
        row = int(finite.argmin())
        raise ValueError(f"row {row} of the probabilities is {probabilities[row].tolist()}; they must be finite")
