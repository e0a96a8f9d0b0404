"""Means and intervals over the measured bags, as the plain values of `faithfulness.json`."""

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from milpath.inference.faithfulness.explained_quantity import Question
from milpath.inference.faithfulness.measure_bags import AGREEMENTS, MeasuredBag, MeasureOptions
from milpath.inference.faithfulness.tile_relevance import ATTENTION, ORDERS, RANDOM
from milpath.metrics.faithfulness.perturbation_curves import (
    KEPT,
    REMOVED,
    area,
    mean_intervals,
    ratio_interval,
    value_at,
)
from milpath.metrics.intervals import Interval
from milpath.reports.faithfulness.verdict import verdict_of

ALL = "all bags"
# Numbers of an order, each an interval: value, low, high.
AREAS = ("deletion_area", "insertion_area", "deletion_gain", "insertion_gain", "relevance_gain", "drop")
_SCALES = ("probability", "log_odds")


def summarise(
    rows: Sequence[MeasuredBag],
    question: Question,
    options: MeasureOptions,
    groups: Mapping[str, str] | None = None,
    num_resamples: int = 1000,
) -> dict[str, Any]:
    """Return what was measured, in plain values.

    - `deletion_area`: mean of the watched value over `REMOVED`, lower if the first tiles of the order matter.
    - `insertion_area`: mean over `KEPT`, higher if they are enough.
    - `deletion_gain`, `insertion_gain`: how much better than random orders of the same bag, > 0 if better.
    - `relevance_gain`: `insertion_area - deletion_area`. Tiles in reverse order leave the bag as those in order enter it, so
      this is the area between removing the least and the most relevant first (Blücher et al., symmetric relevance gain).
    - `share_of_gain`: the gain of attention, the sum of both, as a share of that of the order.
    - `drop`: by how much the value falls if the share of top tiles is removed; `drop_gain` more than by random tiles.

    Args:
        rows: One row per bag and network.
        question: What is explained.
        options: How the bags were perturbed.
        groups: Bag to group, which intervals draw as a whole; `None` if bags are independent.
        num_resamples: Bootstrap resamples of each interval.

    Raises:
        ValueError: If there are no rows.
    """
    if not rows:
        raise ValueError("no bag has two tiles or more: there is nothing to remove; give other data or splits")
    several = len({row.network for row in rows}) > 1
    names = [row.bag_id if groups is None else groups[row.bag_id] for row in rows]
    drawn = np.array(names) if several or groups is not None else None
    parts = [_part(ALL, rows, drawn, options, num_resamples)]
    if (classes := sorted({row.explained for row in rows})) and len(classes) > 1:
        for name in classes:
            own = np.array([row.explained == name for row in rows])
            kept = [row for row in rows if row.explained == name]
            parts.append(_part(name, kept, None if drawn is None else drawn[own], options, num_resamples))
    record: dict[str, Any] = {
        "quantity": question.quantity,
        "of_classes": question.of_classes,
        "num_bags": len({row.bag_id for row in rows}),
        "num_networks": len({row.network for row in rows}),
        "num_groups": None if groups is None else len(set(names)),
        "share": options.share,
        "num_random": options.num_random,
        "num_resamples": num_resamples,
        "seed": options.seed,
        "removed": REMOVED.tolist(),
        "kept": KEPT.tolist(),
        "orders": {name: words for name, words in ORDERS.items() if name in parts[0]["orders"]},
        "parts": parts,
        "truth": _truth(rows, drawn, num_resamples),
        "between": _agreement([row.between for row in rows], drawn, num_resamples),
        "between_kinds": _by_kind(rows, drawn, num_resamples),
        "between_difference": _difference_of_kinds(rows, drawn, num_resamples),
        "augmented": _agreement([row.augmented for row in rows], drawn, num_resamples),
    }
    headline = _headline(question, parts)
    return record | {"headline": headline["name"]} | verdict_of(record, headline)


def _headline(question: Question, parts: Sequence[dict[str, Any]]) -> dict[str, Any]:
    """Return the part that the verdict is about: bags with the class to detect, as others have no tile to point at."""
    positive = getattr(question.target, "positive_class", None)
    if positive is not None and question.chosen is None:
        for part in parts:
            if part["name"] == question.class_names[positive]:
                return part
    return parts[0]


def _part(
    name: str,
    rows: Sequence[MeasuredBag],
    groups: NDArray[np.str_] | None,
    options: MeasureOptions,
    num_resamples: int,
) -> dict[str, Any]:
    """Return the curves and areas of some bags."""
    orders = [order for order in ORDERS if any(order in row.deletion for row in rows)]
    found = {order: _order(order, rows, groups, options.share, num_resamples) for order in orders}
    return {
        "name": name,
        "num_bags": len({row.bag_id for row in rows}),
        "num_flat": sum(row.flat for row in rows),
        "num_rows": len(rows),
        "num_units": len(rows) if groups is None else len(np.unique(groups)),
        "orders": found,
    }


def _order(
    order: str, rows: Sequence[MeasuredBag], groups: NDArray[np.str_] | None, share: float, num_resamples: int
) -> dict[str, Any]:
    """Return curves and areas of an order on both scales, with intervals over all its bags."""
    found: dict[str, Any] = {"num_bags": len({row.bag_id for row in rows if order in row.deletion})}
    for place, scale in enumerate(_SCALES):
        deletion, insertion, whole = _curves(order, rows, place)
        by_chance = _curves(RANDOM, rows, place)
        drop, drop_by_chance = (row_drop(each, whole, share) for each in (deletion, by_chance[0]))
        numbers = {
            "deletion_area": area(deletion),
            "insertion_area": area(insertion),
            "deletion_gain": area(by_chance[0]) - area(deletion),
            "insertion_gain": area(insertion) - area(by_chance[1]),
            "relevance_gain": area(insertion) - area(deletion),
            "drop": drop,
            "drop_gain": drop - drop_by_chance,
        }
        columns = np.concatenate([np.stack(list(numbers.values()), axis=1), deletion, insertion], axis=1)
        ends = [_plain(each) for each in mean_intervals(columns, groups, num_resamples)]
        steps = deletion.shape[1]
        curves = {"deletion": ends[-2 * steps : -steps], "insertion": ends[-steps:]}
        gain = numbers["deletion_gain"] + numbers["insertion_gain"]
        shared = ratio_interval(_gain_of_attention(rows, place), gain, groups, num_resamples)
        found[scale] = dict(zip(numbers, ends, strict=False)) | {"share_of_gain": _plain(shared)} | curves
    return found


def _gain_of_attention(rows: Sequence[MeasuredBag], place: int) -> NDArray[np.float64]:
    """Return by how much both areas of each bag together are better than those of random orders, `(bags,)`."""
    (deletion, insertion, _), (removed, kept, _) = (_curves(order, rows, place) for order in (ATTENTION, RANDOM))
    return (area(removed) - area(deletion)) + (area(insertion) - area(kept))


def row_drop(deletion: NDArray[np.float64], whole: NDArray[np.float64], share: float) -> NDArray[np.float64]:
    """Return by how much the value of each bag falls if the top share of an order is removed, `(bags,)`."""
    return np.asarray(whole - value_at(share, deletion, REMOVED))


def _curves(
    order: str, rows: Sequence[MeasuredBag], place: int
) -> tuple[NDArray[np.float64], NDArray[np.float64], NDArray[np.float64]]:
    """Return deletion and insertion `(bags, steps)`, NaN for a bag without the order, and the whole bags, `(bags,)`."""
    unknown = np.full((2, len(REMOVED)), np.nan)
    deletion = np.stack([row.deletion.get(order, unknown)[place] for row in rows])
    insertion = np.stack([row.insertion.get(order, unknown)[place] for row in rows])
    return deletion, insertion, np.array([row.values[place] for row in rows])


def _truth(
    rows: Sequence[MeasuredBag], groups: NDArray[np.str_] | None, num_resamples: int
) -> dict[str, dict[str, Any]]:
    """Return the AUROC of positive tiles by each order, mean over bags with tiles of both kinds; empty without labels."""
    found = {}
    for order in ORDERS:
        values = np.array([row.truth.get(order, np.nan) for row in rows])
        if np.isfinite(values).any():
            (interval,) = mean_intervals(values[:, None], groups, num_resamples)
            found[order] = {
                "auroc": _plain(interval),
                "num_bags": len({row.bag_id for row in rows if np.isfinite(row.truth.get(order, np.nan))}),
            }
    return found


def _by_kind(
    rows: Sequence[MeasuredBag], groups: NDArray[np.str_] | None, num_resamples: int
) -> dict[str, dict[str, Any]]:
    """Return the agreement of each kind of pair of networks, with the number of bags that have such pairs."""
    kinds = dict.fromkeys(kind for row in rows for kind in row.between_kinds)
    return {
        kind: _agreement([row.between_kinds.get(kind, {}) for row in rows], groups, num_resamples)
        | {"num_bags": sum(kind in row.between_kinds for row in rows)}
        for kind in sorted(kinds)
    }


def _difference_of_kinds(
    rows: Sequence[MeasuredBag], groups: NDArray[np.str_] | None, num_resamples: int
) -> dict[str, Any]:
    """Return how much less or more pairs of one kind agree than those of the other, on bags with both; empty without any."""
    kinds = sorted({kind for row in rows for kind in row.between_kinds})
    both = [len(kinds) == 2 and set(kinds) <= set(row.between_kinds) for row in rows]
    if not any(both):
        return {}
    first, second = (
        [row.between_kinds[kind] if found else {} for row, found in zip(rows, both, strict=True)] for kind in kinds
    )
    each = [
        {name: one[name] - other[name] for name in one if name != "overlap_by_chance"}
        for one, other in zip(first, second, strict=True)
    ]
    return _agreement(each, groups, num_resamples) | {"num_bags": sum(both), "words": f"{kinds[0]} minus {kinds[1]}"}


def _agreement(
    each: Sequence[Mapping[str, float]], groups: NDArray[np.str_] | None, num_resamples: int
) -> dict[str, list[float | None]]:
    """Return the mean over bags of each kind of agreement; empty if none was measured."""
    names = [name for name in (*AGREEMENTS, "change") if any(name in row for row in each)]
    if not names:
        return {}
    values = np.array([[row.get(name, np.nan) for name in names] for row in each])
    if not np.isfinite(values).any():
        return {}
    return {name: _plain(end) for name, end in zip(names, mean_intervals(values, groups, num_resamples), strict=True)}


def _plain(interval: Interval) -> list[float | None]:
    """Return value, low and high with six digits, which keeps the record small."""
    return [None if end is None else float(f"{end:.6g}") for end in (interval.value, interval.low, interval.high)]
