"""Scores of split conformal prediction, and the quantile of those of the validation bags."""

import math
from collections.abc import Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

Array = NDArray[np.float64]
# Weights that sum to a coverage may miss it by rounding.
ROUNDING = 1e-12
# Scores of classes that differ by less are equal: so much do probabilities of one network differ between batches, machines
# and written digits. A quantile is the score of a validation bag, whose own set must not depend on that.
TIED = 1e-6
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


def ends_of(answers: Array, num_numbers: int) -> tuple[Array, Array]:
    """Return what intervals start from, lower and upper ends, each `(..., numbers)`.

    Args:
        answers: `(..., numbers)`, which are both ends, or `(..., 2 numbers)`: all lower ends, then all upper ends.
        num_numbers: Number of numbers.
    """
    return answers[..., :num_numbers], answers[..., -num_numbers:]


def number_scores(labels: NDArray[Any], answers: Array) -> Array:
    """Return `max(low - y, y - high)` of each number, `(bags, numbers)`; of equal ends this is `|y - prediction|`.

    References:
        Romano, Patterson, Candes. Conformalized quantile regression. NeurIPS 2019, eq. 6.

    Example:
        >>> number_scores(np.array([[5.0]]), np.array([[1.0, 9.0]])).tolist()
        [[-4.0]]
    """
    low, high = ends_of(answers, labels.shape[1])
    return np.asarray(np.maximum(low - labels, labels - high))


def ordered_ends(low: Array, high: Array) -> tuple[Array, Array]:
    """Return ends that do not cross: an interval that would be empty holds the middle of its ends."""
    middle = (low + high) / 2
    return np.where(low > high, middle, low), np.where(low > high, middle, high)


def share_weights(groups: NDArray[Any]) -> tuple[Array, int]:
    """Return the weight of each bag, so that each of K patients has `1 / (K + 1)`, and K.

    Args:
        groups: `(bags,)` patient of each bag.
    """
    _, of_bag, sizes = np.unique(groups, return_inverse=True, return_counts=True)
    return 1 / (sizes[of_bag.reshape(-1)] * (len(sizes) + 1)), len(sizes)


def weighted_quantile(scores: Array, weights: Array, coverage: float) -> float | None:
    """Return the smallest score up to which the weights reach a coverage; `None` if they do not."""
    order = np.argsort(scores, kind="stable")
    place = int(np.searchsorted(np.cumsum(weights[order]), coverage - ROUNDING))
    return float(scores[order][place]) if place < len(scores) else None


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
    weights, num_groups = share_weights(np.arange(len(scores)) if groups is None else groups)
    return weighted_quantile(scores, weights, coverage), num_groups


def say_too_few(
    coverage: float,
    by_class: bool,
    of_numbers: bool,
    names: Sequence[str],
    num_groups: Sequence[int],
    missing: Sequence[int],
) -> str:
    """Return a sentence on sets that hold everything because there are too few validation bags; empty if there are none.

    Args:
        coverage: Wanted coverage.
        by_class: Whether it holds within each class.
        of_numbers: Whether these are intervals of numbers.
        names: Names of the classes or numbers.
        num_groups: Independent bags or patients of each class or number, or of all.
        missing: Places, among these, of those with too few.
    """
    if not missing:
        return ""
    of = ", ".join(f"{names[place]} ({num_groups[place]})" for place in missing)
    have = f"the classes {of} have fewer" if by_class else f"there are {num_groups[missing[0]]}"
    what = "no interval has an end" if of_numbers else "every set holds every class"
    if by_class:
        what = "every set holds these classes"
    return (
        f"a coverage of {coverage:g} needs at least {fewest_groups(coverage)} independent validation bags "
        f"or patients{' of each class' if by_class else ''}, but {have}: {what}"
    )
