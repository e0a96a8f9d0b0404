"""Parts of a report that every target has: attention, and results by subgroup."""

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from milpath.data.store.bag_store import BagStore
from milpath.metrics.attention_quality import AttentionQuality, attention_entropy, attention_quality
from milpath.metrics.intervals import Interval, bootstrap_interval
from milpath.metrics.subgroups import subgroup_tables
from milpath.reports.run_folder import RunFolder
from milpath.targets import Target


def attention_of(
    run: RunFolder,
    reported: str,
    store: BagStore | None,
    agreement: NDArray[np.float64] | None = None,
    groups: NDArray[np.str_] | None = None,
) -> dict[str, Any]:
    """Return the entropy of attention and, if there are tile labels, how well attention ranks the positive tiles.

    Args:
        run: The run.
        reported: The split.
        store: The tiles; `None` if they are not at hand.
        agreement: `(bags,)` of the folds of an average on attention, NaN if not defined; `None` of one network.
        groups: `(bags,)` groups that intervals draw together; `None` draws bags.

    Returns:
        Empty for predictions without attention.
    """
    rows = run.rows(reported).tolist()
    attention = [run.predictions.attention[row] for row in rows]
    if not any(map(len, attention)):
        return {}
    quality: AttentionQuality | None = None
    intervals: dict[str, Interval] = {}
    if store is not None and store.labels_of_tiles(slice(0)) is not None:
        index_of = {bag_id: index for index, bag_id in enumerate(store.bags["bag_id"])}
        wanted = [store.tile_slice(index_of[run.predictions.bag_ids[row]]) for row in rows]
        labels = [store.labels_of_tiles(where) for where in wanted]
        quality = attention_quality(attention, labels)
        drawn = None if groups is None else groups[rows]
        intervals = {
            "auroc": mean_over_bags(quality.per_bag_auroc, drawn),
            "average_precision": mean_over_bags(quality.per_bag_average_precision, drawn),
        }
    entropies = [attention_entropy(weights) for weights in attention]
    known = np.zeros(0) if agreement is None else agreement[rows][np.isfinite(agreement[rows])]
    agreed = (
        {"mean": float(known.mean()), "low": float(known.min()), "high": float(known.max())} if len(known) else None
    )
    return {
        "quality": quality, "intervals": intervals, "agreement": agreed,
        "entropy": float(np.mean(entropies)), "low": min(entropies), "high": max(entropies),
    }  # fmt: skip


def mean_over_bags(values: NDArray[np.float64], groups: NDArray[np.str_] | None = None) -> Interval:
    """Return the mean of the values of bags, those that are not NaN, and its bootstrap interval.

    Example:
        >>> interval = mean_over_bags(np.array([0.2, 0.4, np.nan, 0.9]))
        >>> round(interval.value, 3), interval.low < interval.value < interval.high
        (0.5, True)
    """
    known = np.isfinite(values)
    if not known.any():
        return Interval(None, None, None, 0)
    values, groups = values[known], None if groups is None else groups[known]

    def mean(weights: NDArray[np.float64] | None) -> NDArray[np.float64]:
        return np.asarray(values.mean() if weights is None else weights @ values / weights.sum(axis=1))

    return bootstrap_interval(mean, len(values), groups)


def subgroups_of(
    run: RunFolder,
    reported: str,
    target: Target,
    outcomes: Mapping[str, Any],
    known: pd.DataFrame | None,
    columns: Sequence[str] | None,
    num_resamples: int,
) -> list[Any]:
    """Return the results by subgroup."""
    if known is None:
        return []
    return list(
        subgroup_tables(
            outcomes[reported], known.iloc[run.rows(reported)], target.subgroup_metrics, columns, num_resamples
        )
    )
