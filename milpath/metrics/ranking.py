"""Ranking metrics, AUROC and average precision, for many weightings of the bags at once."""

import numpy as np
from numpy.typing import NDArray

Array = NDArray[np.float64]


def auroc(positive: NDArray[np.bool_], scores: Array, weights: Array | None = None) -> Array:
    """Return the area under the ROC curve; ties count half.

    AUROC = sum_{i positive, j negative} w_i w_j ([s_i > s_j] + [s_i = s_j] / 2) / (sum_i w_i  sum_j w_j)

    Args:
        positive: `(bags,)`.
        scores: `(bags,)`, higher means more likely positive.
        weights: `(..., bags)` >= 0, how often each bag counts; `None` means once. A bootstrap passes one row per
            resample.

    Returns:
        `(...)`; NaN if no positive or no negative bag has weight.

    References:
        Hanley and McNeil. The meaning and use of the area under a receiver operating characteristic (ROC) curve.
        Radiology 143, 1982.

    Example:
        >>> float(auroc(np.array([False, True, False, True]), np.array([0.1, 0.4, 0.4, 0.8])))
        0.875
    """
    won, lost = _by_score(positive, scores, weights, descending=False)
    below = np.cumsum(lost, axis=-1) - lost / 2
    return _ratio((won * below).sum(axis=-1), won.sum(axis=-1) * lost.sum(axis=-1))


def average_precision(positive: NDArray[np.bool_], scores: Array, weights: Array | None = None) -> Array:
    """Return the average precision, sum_k (recall_k - recall_{k-1}) precision_k over the distinct scores.

    Args:
        positive: `(bags,)`.
        scores: `(bags,)`, higher means more likely positive.
        weights: `(..., bags)` >= 0, how often each bag counts; `None` means once.

    Returns:
        `(...)`; NaN if no positive or no negative bag has weight: without negatives it is 1 whatever the scores are.

    Example:
        >>> round(float(average_precision(np.array([False, True, True]), np.array([0.5, 0.4, 0.8]))), 4)
        0.8333
    """
    found, wrong = _by_score(positive, scores, weights, descending=True)
    hits = np.cumsum(found, axis=-1)
    calls = hits + np.cumsum(wrong, axis=-1)
    precision = np.divide(hits, calls, out=np.zeros_like(hits), where=calls > 0)
    total = found.sum(axis=-1)
    return _ratio((found * precision).sum(axis=-1), np.where(wrong.sum(axis=-1) > 0, total, 0))


def _by_score(
    positive: NDArray[np.bool_], scores: Array, weights: Array | None, *, descending: bool
) -> tuple[Array, Array]:
    """Return the weight of positives and of negatives at each distinct score, in the order of the scores."""
    if weights is None:
        weights = np.ones(len(scores))
    order = np.argsort(-scores if descending else scores, kind="stable")
    ordered = scores[order]
    starts = np.flatnonzero(np.r_[True, ordered[1:] != ordered[:-1]])
    sorted_weights = weights[..., order]
    sorted_positive = positive[order]
    with_class = (sorted_weights * sorted_positive, sorted_weights * ~sorted_positive)
    if len(starts) == len(ordered):
        return with_class
    return np.add.reduceat(with_class[0], starts, axis=-1), np.add.reduceat(with_class[1], starts, axis=-1)


def _ratio(numerator: Array, denominator: Array) -> Array:
    """Divide; NaN where the denominator is 0."""
    return np.divide(numerator, denominator, out=np.full_like(numerator, np.nan), where=denominator > 0)
