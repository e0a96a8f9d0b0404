"""Quality of attention: how well it ranks tiles with known labels."""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from milpath.metrics.ranking import auroc, average_precision

Array = NDArray[np.float64]


@dataclass(frozen=True)
class AttentionQuality:
    """How well attention distinguishes positive tiles from negative ones.

    Only bags with both kinds of tiles count: in a bag without positive tiles attention still sums to one, but there is
    nothing to find.

    Attributes:
        auroc: Mean over bags of the AUROC of the weights; `None` if no bag counts.
        average_precision: Mean over bags.
        pooled_auroc: AUROC over the tiles of all bags together, with each weight multiplied by the number of tiles of
            its bag (1 is an equal share), so that large and small bags can be pooled.
        pooled_average_precision: Likewise.
        prevalence: Share of positive tiles in the bags that count: the average precision of random attention.
        num_bags: Bags that count.
        num_left_out: Bags without tile labels or with only one kind of tiles.
        per_bag_auroc: `(all bags,)`, NaN where a bag does not count.
        per_bag_average_precision: Likewise.
    """

    auroc: float | None
    average_precision: float | None
    pooled_auroc: float | None
    pooled_average_precision: float | None
    prevalence: float | None
    num_bags: int
    num_left_out: int
    per_bag_auroc: Array
    per_bag_average_precision: Array


def attention_quality(
    attention: Sequence[Array], tile_labels: Sequence[NDArray[np.integer] | None]
) -> AttentionQuality:
    """Compare attention with tile labels.

    Args:
        attention: One array per bag, `(tiles,)`, sums to 1.
        tile_labels: One array per bag, `(tiles,)`: above 0 for positive tiles, 0 for negative ones, -1 for unknown
            (ignored); `None` for a bag without labels.

    Raises:
        ValueError: If the numbers of weights and labels of a bag differ.

    Example:
        >>> quality = attention_quality([np.array([0.7, 0.2, 0.1])], [np.array([1, 0, 0])])
        >>> quality.auroc, quality.average_precision
        (1.0, 1.0)
    """
    per_bag = np.full((2, len(attention)), np.nan)
    pooled: list[tuple[Array, NDArray[np.bool_]]] = []
    for index, (weights, labels) in enumerate(zip(attention, tile_labels, strict=True)):
        if labels is None:
            continue
        if len(weights) != len(labels):
            raise ValueError(f"bag {index} has {len(weights)} attention weights but {len(labels)} tile labels")
        known = np.asarray(labels) >= 0
        matters = np.asarray(labels)[known] > 0
        share = np.asarray(weights, dtype=np.float64)[known] * len(weights)
        if not matters.any() or matters.all():
            continue
        per_bag[:, index] = auroc(matters, share), average_precision(matters, share)
        pooled.append((share, matters))
    if not pooled:
        return AttentionQuality(None, None, None, None, None, 0, len(attention), per_bag[0], per_bag[1])
    shares, matter = (np.concatenate(parts) for parts in zip(*pooled, strict=True))
    return AttentionQuality(
        auroc=float(np.nanmean(per_bag[0])),
        average_precision=float(np.nanmean(per_bag[1])),
        pooled_auroc=float(auroc(matter, shares)),
        pooled_average_precision=float(average_precision(matter, shares)),
        prevalence=float(matter.mean()),
        num_bags=len(pooled),
        num_left_out=len(attention) - len(pooled),
        per_bag_auroc=per_bag[0],
        per_bag_average_precision=per_bag[1],
    )


def attention_entropy(weights: NDArray[np.floating]) -> float:
    """Return the entropy of attention relative to equal weights, -sum_k a_k log a_k / log K.

    Plotted over epochs, values near either end reveal a collapse of attention early.

    Args:
        weights: `(tiles,)` of one bag without padding, >= 0, sums to 1.

    Returns:
        In [0, 1]: 0 means all weight on one tile (also for a bag of one tile), 1 means equal weights.

    Example:
        >>> attention_entropy(np.array([0.25, 0.25, 0.25, 0.25]))
        1.0
    """
    positive = weights[weights > 0].astype(np.float64)
    if len(weights) < 2:
        return 0.0
    return max(0.0, float(-(positive * np.log(positive)).sum() / np.log(len(weights))))
