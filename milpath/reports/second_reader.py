"""Thresholds, temperature and deferral chosen on the validation split and measured on another one."""

from collections.abc import Sequence
from dataclasses import dataclass, replace
from functools import partial

import numpy as np
from numpy.typing import NDArray

from milpath.metrics.calibration import fit_temperature, say_bound
from milpath.metrics.deferral import Deferral, deferral_table
from milpath.metrics.evaluated_bags import EvaluatedBags
from milpath.metrics.operating_point import OperatingPoint, attained, threshold_for_sensitivity
from milpath.targets import ClassTarget

WISHED = (0.90, 0.95, 0.99)


@dataclass(frozen=True)
class WishedSensitivity:
    """A target sensitivity and the operating point attained.

    Attributes:
        wished: Target sensitivity on validation.
        attained: Operating point on the other split, at the threshold chosen on validation.
    """

    wished: float
    attained: OperatingPoint

    @property
    def missed(self) -> bool:
        """Whether the other split does not reach the target sensitivity."""
        found = self.attained.sensitivity.value
        return found is not None and found < self.wished


@dataclass(frozen=True)
class SecondReader:
    """Performance of the network as a second reader.

    Attributes:
        used: Operating point at the threshold of the run; None for more than two classes.
        wishes: Operating points for the target sensitivities; empty without validation or with more than two classes.
        temperature: Fitted on validation; None without validation.
        calibrated: The evaluated bags at that temperature; None without validation.
        deferral: Results when the least confident bags are deferred.
    """

    used: OperatingPoint | None
    wishes: tuple[WishedSensitivity, ...]
    temperature: float | None
    calibrated: EvaluatedBags | None
    deferral: tuple[Deferral, ...]

    @property
    def bound(self) -> str:
        """What to know of a temperature at the end of its range; empty if it is within."""
        return "" if self.temperature is None else say_bound(self.temperature)


def second_reader(
    outcomes: EvaluatedBags,
    validation: EvaluatedBags | None,
    target: ClassTarget,
    threshold: float,
    wished: Sequence[float] = WISHED,
    sets: NDArray[np.bool_] | None = None,
) -> SecondReader:
    """Choose thresholds and temperature on validation, and measure them on the reported split.

    Args:
        outcomes: The evaluated bags of the reported split.
        validation: Those of the validation split; None if there is none or it is the reported split.
        target: The target of the run.
        threshold: Operating point of the run.
        wished: Target sensitivities to choose thresholds for.
        sets: `(bags, classes)`, the prediction sets of the reported split; `None` without.
    """
    binary = target.has_threshold
    scores = outcomes.probabilities[:, 1]
    deferral = tuple(deferral_table(outcomes, sets=sets))
    used = attained(outcomes.labels, scores, threshold, outcomes.groups) if binary else None
    if validation is None or validation.num_bags == 0:
        return SecondReader(used, (), None, None, deferral)
    wishes = []
    if binary and (validation.labels == 1).any():
        for sensitivity in wished:
            chosen = threshold_for_sensitivity(validation.labels, validation.probabilities[:, 1], sensitivity)
            point = attained(outcomes.labels, scores, chosen, outcomes.groups)
            wishes.append(WishedSensitivity(sensitivity, point))
    temperature = fit_temperature(validation.labels, partial(target.at_temperature, validation.probabilities))
    calibrated = replace(outcomes, probabilities=target.at_temperature(outcomes.probabilities, temperature))
    return SecondReader(used, tuple(wishes), temperature, calibrated, deferral)
