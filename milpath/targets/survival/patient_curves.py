"""Survival of patients as the mean of the curves of their slides, and the median of this mean."""

from itertools import pairwise

import numpy as np
from numpy.typing import NDArray

from milpath.targets.target import Array

_HALF = np.log(2.0)
# A survival of exactly 0 has a finite logarithm.
_SMALLEST = 1e-30


def medians_of_patients(
    answers: Array, means: Array, patients: NDArray[np.int64], times: Array, *baseline: Array
) -> Array:
    """Return the median time of each patient, that of the mean curve of the slides, `(patients,)`; NaN if not reached.

    Args:
        answers: `(slides, columns)` risk, survival at each of `times`, median.
        means: `(patients, columns)` their means.
        patients: `(slides,)` patient of each slide, from 0.
        times: `(times,)`, ascending.
        baseline: Steps and cumulative hazard of the baseline of Cox's model; without it the mean curve is known at `times`.
    """
    if baseline:
        return _medians_of_mean_curves(answers[:, 0], answers[:, -1], patients, *baseline)
    return _medians_between_times(means[:, 1:-1], answers[:, -1], patients, times)


def _medians_of_mean_curves(
    risk: Array, medians: Array, patients: NDArray[np.int64], steps: Array, hazard: Array
) -> Array:
    """Return where the mean of the curves `exp(-H_0(t) exp(risk))` of the slides of a patient falls to one half.

    The median of a mean is not the mean of the medians, which may not be reached on a slide although it is for the patient.

    Args:
        risk: `(slides,)` log of the relative hazard.
        medians: `(slides,)`, that of a patient with a single slide.
        patients: `(slides,)` patient of each slide, from 0.
        steps: `(steps,)` times of the steps of the baseline, ascending.
        hazard: `(steps,)` cumulative baseline hazard from each step on.

    Returns:
        `(patients,)`; NaN if it is not reached.
    """
    found = []
    with np.errstate(divide="ignore", over="ignore"):
        log_hazard = np.log(hazard)
        for slides in _by_patient(patients):
            if len(slides) == 1:
                found.append(medians[slides[0]])
                continue
            total = np.zeros(len(steps))
            for slide in slides:
                total += np.exp(-np.exp(log_hazard + risk[slide]))
            reached = np.flatnonzero(total / len(slides) <= 0.5)
            found.append(steps[reached[0]] if len(reached) else np.nan)
    return np.array(found)


def _medians_between_times(survival: Array, medians: Array, patients: NDArray[np.int64], times: Array) -> Array:
    """Return where the mean curve of the slides of a patient falls to one half, from its values at some times.

    Between two of the times the hazard is taken as constant.

    Args:
        survival: `(patients, times)` mean over the slides of a patient.
        medians: As in `_medians_of_mean_curves`.
        patients: As in `_medians_of_mean_curves`.
        times: `(times,)`, ascending.

    Returns:
        `(patients,)`; NaN if it is not reached up to the last of the times, beyond which the mean curve is not known.
    """
    found, moments = [], np.concatenate([[0.0], times])
    for slides, curve in zip(_by_patient(patients), survival, strict=True):
        if len(slides) == 1:
            found.append(medians[slides[0]])
            continue
        lost = np.concatenate([[0.0], -np.log(np.maximum(curve, _SMALLEST))])
        parts = zip(pairwise(moments), pairwise(lost), strict=True)
        reached = (
            start + (_HALF - before) / (after - before) * (end - start)
            for (start, end), (before, after) in parts
            if after >= _HALF
        )
        found.append(next(reached, np.nan))
    return np.array(found)


def _by_patient(patients: NDArray[np.int64]) -> list[NDArray[np.int64]]:
    """Return the slides of each patient."""
    order = np.argsort(patients, kind="stable")
    return np.split(order, np.cumsum(np.bincount(patients))[:-1])
