"""What is wrong with the weights that are tested, as their predictions of the training bags show it, in one line."""

import logging
from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

from milpath.metrics.attention_quality import attention_entropy
from milpath.records.prediction_table import Predictions
from milpath.training.callbacks.collapse_warning import EQUAL, ONE_TILE

_log = logging.getLogger(__name__)
# Log loss on the training bags relative to that of a constant, above which hardly anything was learned. Normal scores of as
# many positive as negative bags give 0.98 at an area under the ROC curve of 0.6, and 0.91 at 0.7.
_NOT_LEARNED = 0.95
_LEAST_PROBABILITY = 1e-7


def warn_of_tested_weights(name: str, predictions: Predictions, learns_attention: bool) -> None:
    """Log one warning if the tested weights did not learn the training bags, or if their attention has collapsed.

    With validation bags the attention is judged over the epochs (`CollapseWarning`), without any here.

    Args:
        name: Name of the training in the message, such as its folder.
        predictions: Predictions by these weights, at temperature 1. Without classes only attention is judged.
        learns_attention: Whether attention has weights of its own.
    """
    chosen = np.array([split == "train" for split in predictions.splits], dtype=bool)
    attention: list[NDArray[np.floating]] = []
    if learns_attention and "val" not in predictions.splits:
        attention = [weights for weights, own in zip(predictions.attention, chosen, strict=True) if own]
    loss = None
    if not predictions.answer_columns:
        loss = relative_log_loss(predictions.probabilities[chosen], predictions.labels[chosen])
    if found := of_tested_weights(loss, attention):
        _log.warning("%s: %s", name, found)


def of_tested_weights(loss: float | None, attention: Sequence[NDArray[np.floating]] = ()) -> str | None:
    """Return what is wrong with tested weights, `None` for nothing.

    Args:
        loss: Log loss on the training bags relative to that of the best constant; `None` if unknown.
        attention: For each training bag `(tiles,)`, the weight of each tile; empty if attention is not judged.

    Example:
        >>> of_tested_weights(0.4)
        >>> of_tested_weights(1.0).split(":")[0]
        'the tested weights are hardly better on their own training bags than a constant (log loss 1.00 times as large)'
    """
    entropies = [attention_entropy(weights) for weights in attention if len(weights) > 1]
    mean = float(np.mean(entropies)) if entropies else None
    if mean is not None and mean < ONE_TILE:
        return (
            "attention of the tested weights is on one tile of each training bag: the others do not count; lower "
            "optimizer.lr, or set optimizer.weight_decay"
        )
    if loss is not None and loss > _NOT_LEARNED:
        return (
            f"the tested weights are hardly better on their own training bags than a constant (log loss {loss:.2f} times as "
            "large): train longer, raise optimizer.lr (lower it if train/loss jumps), or see whether the features tell the "
            "label at all"
        )
    if mean is not None and mean > EQUAL:
        return (
            "attention of the tested weights is equal for all tiles of the training bags: the network is a plain mean of "
            "tiles; train longer, raise optimizer.lr, or compare with model=embedding_pool_mil model.pooling=mean"
        )
    return None


def relative_log_loss(probabilities: NDArray[np.floating], labels: NDArray[np.integer]) -> float | None:
    """Return the log loss divided by that of the best constant; `None` with bags of fewer than two classes.

    It is the smaller of two: that over bags, whose constant is the shares of the classes, and that with equal weight for
    each class, whose constant is equal probabilities. A training with `class_weights=balanced` minimises the second.

    Args:
        probabilities: `(bags, classes)`.
        labels: `(bags,)` class indices; bags with -1 do not count.

    Example:
        >>> round(relative_log_loss(np.array([[0.75, 0.25], [0.25, 0.75]]), np.array([0, 1])), 3)
        0.415
    """
    known = labels >= 0
    classes, indices, counts = np.unique(labels[known], return_inverse=True, return_counts=True)
    if len(classes) < 2:
        return None
    own = probabilities[known, labels[known]].astype(np.float64)
    losses = -np.log(np.clip(own, _LEAST_PROBABILITY, None))
    shares = counts / counts.sum()
    of_bags = losses.mean() / -(shares * np.log(shares)).sum()
    of_classes = (np.bincount(indices, losses) / counts).mean() / np.log(len(classes))
    return float(min(of_bags, of_classes))
