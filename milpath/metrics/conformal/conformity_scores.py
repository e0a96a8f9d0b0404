"""Scores of split conformal prediction, and the quantile of those of the validation bags."""

import math

import numpy as np
from numpy.typing import NDArray

Array = NDArray[np.float64]
CLASSES, ORDERED, NUMBERS = "classes", "ordered", "numbers"


def fewest_groups(coverage: float) -> int:
    """Return the number of independent bags or patients that a coverage needs, `1 / (1 - coverage) - 1`, rounded up.

    Example:
        >>> fewest_groups(0.9), fewest_groups(0.95)
        (9, 19)
    """
    return math.ceil(coverage / (1 - coverage) - 1e-9)


def class_scores(probabilities: Array, kind: str = CLASSES) -> Array:
    """Return the score of each class, `(bags, classes)`; small for a probable class.

    Example:
        >>> class_scores(np.array([[0.1, 0.6, 0.3]]), "ordered").round(3).tolist()
        [[0.9, 0.0, 0.6]]
    """
    if kind != ORDERED:
        return 1 - probabilities
    rows, num_classes = np.arange(len(probabilities)), probabilities.shape[1]
    padded = np.pad(probabilities, ((0, 0), (1, 1)), constant_values=-1.0)  # no class lies beyond the ends
    low = high = probabilities.argmax(axis=1)
    mass, scores = probabilities[rows, low].copy(), np.zeros_like(probabilities)
    for _ in range(num_classes - 1):
        down = padded[rows, low] >= padded[rows, high + 2]
        added = np.where(down, low - 1, high + 1)
        scores[rows, added] = mass
        mass += probabilities[rows, added]
        low, high = np.where(down, low - 1, low), np.where(down, high, high + 1)
    return scores


def score_quantile(scores: Array, groups: NDArray[np.str_] | None, coverage: float) -> tuple[float | None, int]:
    """Return the quantile of calibration scores that a new score stays below with a probability of at least `coverage`.

    Each of K patients weighs 1 / (K + 1), shared by its bags, and the new patient weighs the rest at infinity. With one bag
    a patient this is the `ceil((K + 1) coverage)`-th smallest score.

    Args:
        scores: `(bags,)`.
        groups: `(bags,)` patient of each bag; `None` if all bags are independent.
        coverage: In (0, 1).

    Returns:
        The quantile, `None` if there are too few patients, and their number.

    References:
        Lee, Barber, Willett. Distribution-free inference with hierarchical data. 2023, eq. 5.

    Example:
        >>> score_quantile(np.arange(19.0), None, 0.9), score_quantile(np.arange(5.0), None, 0.9)
        ((17.0, 19), (None, 5))
    """
    if not len(scores):
        return None, 0
    _, of_bag, sizes = np.unique(
        np.arange(len(scores)) if groups is None else groups, return_inverse=True, return_counts=True
    )
    order = np.argsort(scores, kind="stable")
    reached = np.cumsum(1 / (sizes[of_bag.reshape(-1)][order] * (len(sizes) + 1)))
    place = int(np.searchsorted(reached, coverage - 1e-12))
    return (float(scores[order][place]) if place < len(scores) else None), len(sizes)
