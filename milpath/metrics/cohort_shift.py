"""How a cohort differs from the validation bags that a network was calibrated on: scores, prevalence, calibration."""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from milpath.metrics.intervals import Interval, bootstrap_interval
from milpath.metrics.survival.survival_curves import kaplan_meier

Array = NDArray[np.float64]


@dataclass(frozen=True)
class CohortShift:
    """One class or number in two cohorts.

    Attributes:
        name: Name of the class or number.
        predicted: Mean prediction in the tested cohort: probability of the class, or number.
        observed: Mean truth there: share of bags of the class, or mean number; `None` if nobody is followed up to the time.
        calibration: Calibration in the large there, observed minus predicted, with its 95% interval.
        predicted_before: Mean prediction on the validation bags of all folds; `None` if their files do not say it.
        observed_before: Mean truth there.
    """

    name: str
    predicted: float
    observed: float | None
    calibration: Interval
    predicted_before: float | None
    observed_before: float | None


def cohort_shift(
    truth: Array,
    answers: Array,
    truth_before: Array,
    answers_before: Array,
    names: Sequence[str],
    groups: NDArray[np.str_] | None = None,
    num_resamples: int = 1000,
) -> list[CohortShift]:
    """Return the shift of each class or number.

    Args:
        truth: `(bags, columns)` of the tested cohort: 1 for the class of a bag and 0 otherwise, or the numbers.
        answers: `(bags, columns)`, probabilities or predicted numbers.
        truth_before: Likewise of the validation bags.
        answers_before: Likewise.
        names: Name of each column.
        groups: `(bags,)` patient of each tested bag, drawn together; `None` draws single bags.
        num_resamples: Bootstrap resamples of the interval.

    References:
        Van Calster et al. Calibration: the Achilles heel of predictive analytics. BMC Medicine 2019 (in the large).
    """
    rows = []
    for place, name in enumerate(names):
        difference = truth[:, place] - answers[:, place]

        def mean(weights: Array | None, difference: Array = difference) -> Array:
            if weights is None:
                return np.asarray(difference.mean())
            return np.asarray(weights @ difference / weights.sum(axis=1))

        rows.append(
            CohortShift(
                name,
                float(answers[:, place].mean()),
                float(truth[:, place].mean()),
                bootstrap_interval(mean, len(truth), groups, num_resamples),
                float(answers_before[:, place].mean()),
                float(truth_before[:, place].mean()),
            )
        )
    return rows


def survival_shift(
    times: Array,
    bags: tuple[Array, NDArray[np.bool_], Array],
    bags_before: tuple[Array, NDArray[np.bool_], Array],
    names: Sequence[str],
    groups: NDArray[np.str_] | None = None,
    num_resamples: int = 1000,
) -> list[CohortShift]:
    """Return the shift of survival at some times: mean predicted survival, and Kaplan and Meier's estimate as the truth.

    Args:
        times: `(times,)`.
        bags: Time and event `(bags,)` and predicted survival `(bags, times)` of the tested cohort.
        bags_before: Likewise of the validation bags; survival is NaN where it is not known.
        names: Name of each time.
        groups: As in `cohort_shift`.
        num_resamples: As in `cohort_shift`.
    """
    (time, event, survival), (time_before, event_before, survival_before) = bags, bags_before
    rows = []
    for place, name in enumerate(names):

        def difference(weights: Array | None, place: int = place) -> Array:
            counts = np.ones(len(time)) if weights is None else weights
            observed = np.where(
                counts @ (time >= times[place]) > 0, kaplan_meier(time, event, counts).at(times[place])[..., 0], np.nan
            )
            return np.asarray(observed - counts @ survival[:, place] / counts.sum(axis=-1))

        before = survival_before[:, place]
        rows.append(
            CohortShift(
                name,
                float(survival[:, place].mean()),
                _observed(time, event, float(times[place])),
                bootstrap_interval(difference, len(time), groups, num_resamples),
                float(before.mean()) if len(before) and np.isfinite(before).all() else None,
                _observed(time_before, event_before, float(times[place])),
            )
        )
    return rows


def _observed(time: Array, event: NDArray[np.bool_], moment: float) -> float | None:
    """Return the share without an event up to a time; `None` if nobody is followed that long: the curve ends before."""
    return float(kaplan_meier(time, event).at(moment)[0]) if (time >= moment).any() else None


def shift_metrics(rows: Sequence[CohortShift]) -> dict[str, float | None]:
    """Return the shift as values of `metrics.json`."""
    values: dict[str, float | None] = {}
    for row in rows:
        values |= {
            f"predicted_mean_{row.name}": row.predicted,
            f"predicted_mean_validation_{row.name}": row.predicted_before,
            f"observed_mean_{row.name}": row.observed,
            f"observed_mean_validation_{row.name}": row.observed_before,
            f"calibration_in_the_large_{row.name}": row.calibration.value,
            f"calibration_in_the_large_low_{row.name}": row.calibration.low,
            f"calibration_in_the_large_high_{row.name}": row.calibration.high,
        }
    return values
