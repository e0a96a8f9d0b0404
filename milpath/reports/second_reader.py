"""What validation would choose and what that attains on a split that had no say: thresholds, temperature, referral."""

from collections.abc import Sequence
from dataclasses import dataclass, replace
from functools import partial

from milpath.metrics.calibration import fit_temperature
from milpath.metrics.deferral import Deferral, deferral_table
from milpath.metrics.evaluated_bags import Outcomes
from milpath.metrics.operating_point import OperatingPoint, attained, threshold_for_sensitivity
from milpath.targets import Target

WISHED = (0.90, 0.95, 0.99)


@dataclass(frozen=True)
class WishedSensitivity:
    """A wish, and what came of it.

    Attributes:
        wished: Sensitivity asked for on validation.
        attained: On the other split, at the threshold that validation chose.
    """

    wished: float
    attained: OperatingPoint


@dataclass(frozen=True)
class SecondReader:
    """How the network would do beside a person.

    Attributes:
        used: What the threshold of the run attains; None for more than two classes.
        wishes: What wished sensitivities become; empty without validation or with more than two classes.
        temperature: Fitted on validation; None without.
        calibrated: The outcomes after that temperature; None without.
        deferral: What referring the least certain brings.
    """

    used: OperatingPoint | None
    wishes: tuple[WishedSensitivity, ...]
    temperature: float | None
    calibrated: Outcomes | None
    deferral: tuple[Deferral, ...]


def second_reader(
    outcomes: Outcomes, validation: Outcomes | None, target: Target, threshold: float, wished: Sequence[float] = WISHED
) -> SecondReader:
    """Choose on validation, measure elsewhere.

    Args:
        outcomes: Of the split that is reported.
        validation: Of the validation split; None where there is none, or where it is the one reported.
        target: What was asked.
        threshold: Operating point of the run.
        wished: Sensitivities to choose thresholds for.
    """
    binary = target.has_threshold
    scores = outcomes.probabilities[:, 1]
    used = attained(outcomes.labels, scores, threshold, outcomes.groups) if binary else None
    if validation is None or validation.num_bags == 0:
        return SecondReader(used, (), None, None, tuple(deferral_table(outcomes)))
    wishes = []
    if binary and (validation.labels == 1).any():
        for sensitivity in wished:
            chosen = threshold_for_sensitivity(validation.labels, validation.probabilities[:, 1], sensitivity)
            point = attained(outcomes.labels, scores, chosen, outcomes.groups)
            wishes.append(WishedSensitivity(sensitivity, point))
    temperature = fit_temperature(validation.labels, partial(target.at_temperature, validation.probabilities))
    calibrated = replace(outcomes, probabilities=target.at_temperature(outcomes.probabilities, temperature))
    return SecondReader(used, tuple(wishes), temperature, calibrated, tuple(deferral_table(outcomes)))
