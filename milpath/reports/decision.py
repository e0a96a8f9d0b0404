"""What is decided on the validation split alone: temperature, threshold, and when to ask a person."""

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from milpath.reports.calibration import apply_temperature, fit_temperature
from milpath.reports.deferral import defer_threshold
from milpath.reports.operating_point import threshold_for_sensitivity
from milpath.reports.outcomes import predicted_classes

Array = NDArray[np.float64]


@dataclass(frozen=True)
class Decision:
    """How probabilities become calls.

    Attributes:
        threshold: A bag of a binary task is called class 1 from this probability on.
        temperature: Divides the logits first.
        defer_below: A bag whose greatest class probability is below it goes to a person; 0 defers none.
    """

    threshold: float = 0.5
    temperature: float = 1.0
    defer_below: float = 0.0


@dataclass(frozen=True)
class Calls:
    """What a decision makes of probabilities.

    Attributes:
        probabilities: `(bags, classes)` after the temperature.
        predicted: int64 `(bags,)`.
        deferred: bool `(bags,)`.
    """

    probabilities: Array
    predicted: NDArray[np.int64]
    deferred: NDArray[np.bool_]


def choose_decision(
    labels: NDArray[np.int64],
    probabilities: Array,
    task: str,
    sensitivity: float | None = None,
    calibrate: bool = True,
    defer_share: float = 0.0,
) -> Decision:
    """Choose temperature, then threshold, then deferral on the validation split.

    Args:
        labels: `(bags,)` of the validation split.
        probabilities: `(bags, classes)` at temperature 1.
        task: "binary", "nominal" or "ordinal".
        sensitivity: Wished sensitivity of a binary task in (0, 1]; None keeps the threshold at 0.5.
        calibrate: Whether to fit a temperature; else it is 1.
        defer_share: Share of validation bags, the least certain, that is deferred; in [0, 1).

    Raises:
        ValueError: If a sensitivity is wished of a task with more than two classes, or validation cannot give it.
    """
    if sensitivity is not None and task != "binary":
        raise ValueError(f"a sensitivity can be wished of a binary task, not of a {task} one; leave it out")
    labels = np.asarray(labels, dtype=np.int64)
    temperature = fit_temperature(labels, probabilities, task) if calibrate else 1.0
    calibrated = apply_temperature(probabilities, temperature, task)
    threshold = 0.5 if sensitivity is None else threshold_for_sensitivity(labels, calibrated[:, 1], sensitivity)
    return Decision(threshold, temperature, defer_threshold(calibrated.max(axis=1), defer_share))


def decide(probabilities: Array, task: str, decision: Decision) -> Calls:
    """Apply a decision to probabilities at temperature 1.

    Example:
        >>> calls = decide(np.array([[0.8, 0.2], [0.55, 0.45]]), "binary", Decision(threshold=0.4, defer_below=0.6))
        >>> calls.predicted.tolist(), calls.deferred.tolist()
        ([0, 1], [False, True])
    """
    if decision.temperature != 1.0:
        probabilities = apply_temperature(probabilities, decision.temperature, task)
    return Calls(
        probabilities=probabilities,
        predicted=predicted_classes(probabilities, task, decision.threshold),
        deferred=probabilities.max(axis=1) < decision.defer_below,
    )
