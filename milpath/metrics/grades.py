"""Results on ISUP grades, over all slides and by provider."""

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from milpath.metrics.evaluated_bags import EvaluatedBags
from milpath.metrics.ranking import auroc
from milpath.metrics.weighted_metrics import quadratic_kappa

Array = NDArray[np.float64]


@dataclass(frozen=True)
class GradeResult:
    """Agreement of predicted and true grades on a set of slides.

    Attributes:
        name: "all", or the provider.
        num_bags: Number of slides.
        quadratic_kappa: Quadratic-weighted kappa of the grades; `None` if all slides have one grade.
        accuracy: Share of slides with the correct grade.
        malignant_auroc: AUROC of grade >= 1 against grade 0; `None` if one of them is absent.
    """

    name: str
    num_bags: int
    quadratic_kappa: float | None
    accuracy: float | None
    malignant_auroc: float | None


def grade_results(
    grades: NDArray[np.int64],
    predicted: NDArray[np.int64],
    malignant_score: Array,
    providers: NDArray[np.str_] | None = None,
    num_grades: int = 6,
) -> list[GradeResult]:
    """Return the results over all slides and for each provider.

    Args:
        grades: `(bags,)`, 0..num_grades-1.
        predicted: `(bags,)` predicted grade.
        malignant_score: `(bags,)`, higher means more likely grade >= 1: one minus the probability of grade 0, or an
            expected grade.
        providers: `(bags,)`; `None` gives only the row over all.
        num_grades: Six for ISUP, which counts benign as 0.

    References:
        Bulten et al. Artificial intelligence for diagnosis and Gleason grading of prostate cancer: the PANDA challenge.
        Nature Medicine 28, 2022 (quadratic-weighted kappa, per provider).

    Example:
        >>> grades = np.array([0, 1, 5, 0])
        >>> grade_results(grades, grades, grades.astype(float))[0].quadratic_kappa
        1.0
    """
    everything = [("all", np.ones(len(grades), dtype=bool))]
    each = [] if providers is None else [(str(name), providers == name) for name in np.unique(providers)]
    return [
        _result(name, grades[chosen], predicted[chosen], malignant_score[chosen], num_grades)
        for name, chosen in everything + each
    ]


def _result(
    name: str, grades: NDArray[np.int64], predicted: NDArray[np.int64], score: Array, num_grades: int
) -> GradeResult:
    """Return the results of a subset of slides."""
    # The kappa depends only on labels and predicted grades; the probabilities only give the number of grades.
    outcomes = EvaluatedBags(grades, np.zeros((len(grades), num_grades)), predicted)
    return GradeResult(
        name=name,
        num_bags=len(grades),
        quadratic_kappa=_defined(quadratic_kappa(outcomes)),
        accuracy=_defined(np.mean(grades == predicted) if len(grades) else np.nan),
        malignant_auroc=_defined(auroc(grades >= 1, score)),
    )


def _defined(value: Array | np.floating | float) -> float | None:
    """Return a number, or `None` for NaN."""
    return float(value) if np.isfinite(value) else None
