"""How well a label is predicted by one thing that is no tissue, such as the scanner, the file size or a part of the name."""

from collections.abc import Mapping
from dataclasses import dataclass, replace

import numpy as np
from numpy.typing import NDArray
from scipy.stats import rankdata

from milpath.metrics.intervals import Interval, percentile_interval, resample_weights
from milpath.metrics.shortcuts.permutation import group_codes, holm, p_value, permuted

Array = NDArray[np.float64]
Codes = NDArray[np.int64]
# Numbers are cut into this many parts of equal size at most, of at least so many groups each.
_MOST_PARTS, _LEAST_GROUPS = 10, 15
AUROC, SHARE = "auroc", "share of variance"
# A smaller effect is not a finding, however small its p-value: with thousands of slides everything is significant.
LEAST_EFFECT = {AUROC: 0.6, SHARE: 0.06}


@dataclass(frozen=True)
class Association:
    """What one covariate says of the label.

    Attributes:
        name: The covariate.
        measure: "auroc": of the label, by the share of each class among the bags with the same value, mean over the
            classes; "share of variance": of the ranks of a number, between the values.
        num_bags: Number of bags.
        num_values: Different values, or parts of a number.
        effect: Of the bags themselves, with its 95% interval by group.
        chance: Mean effect of permuted labels: above 0.5 (or 0), since the shares are taken from the same bags.
        p_value: Of the permutation test.
        adjusted: The same, adjusted by Holm for all covariates.
    """

    name: str
    measure: str
    num_bags: int
    num_values: int
    effect: Interval
    chance: float
    p_value: float
    adjusted: float

    @property
    def is_finding(self) -> bool:
        """Whether the association is beyond chance, and not trivial."""
        return self.adjusted < 0.05 and (self.effect.value or 0.0) >= LEAST_EFFECT[self.measure]


def associations(
    labels: NDArray[np.generic],
    covariates: Mapping[str, NDArray[np.generic]],
    groups: NDArray[np.str_] | None = None,
    *,
    num_permutations: int = 999,
    num_resamples: int = 1000,
    seed: int = 0,
) -> list[Association]:
    """Return what each covariate says of the label.

    Args:
        labels: `(bags,)` integer classes, or numbers.
        covariates: Name to `(bags,)` of numbers (NaN where unknown) or texts; unknown is a value of its own.
        groups: `(bags,)` patient of each bag, kept together in permutations and resamples; `None` for single bags.
        num_permutations: Of the label, or of a covariate that has one value each group where the label has several; the
            smallest p-value is one by this number plus one.
        num_resamples: Bootstrap resamples of the intervals.
        seed: Seed of both.

    Returns:
        One for each covariate with at least two values, the largest effect first.
    """
    codes = group_codes(groups)
    num_groups = len(labels) if codes is None else int(codes.max()) + 1
    measure = AUROC if np.issubdtype(labels.dtype, np.integer) else SHARE
    label = np.unique(labels, return_inverse=True)[1].reshape(-1) if measure == AUROC else _standard_ranks(labels)
    parts = {name: _parts(values, num_groups) for name, values in covariates.items()}
    parts = {name: values for name, values in parts.items() if values.max(initial=0) > 0}
    if len(np.unique(label)) < 2 or not parts:
        return []
    effect = _auroc_of_parts if measure == AUROC else _share_of_parts
    null: dict[str, list[Array]] = {name: [] for name in parts}
    # Of patients with several labels, the permuted ones are less alike than they were. What has one value each patient is
    # permuted instead, over whole patients, which keeps the labels of each.
    exchanged: list[str] = []
    if codes is not None and not _is_one_by_group(label, codes):
        exchanged = [name for name, part in parts.items() if _is_one_by_group(part, codes)]
    for name in exchanged:
        for rows in permuted(parts[name], codes, num_permutations, seed):
            null[name] += [effect(row, label[None]) for row in rows.astype(np.int64)]
    others = [name for name in parts if name not in exchanged]
    if others:
        for rows in permuted(label, codes, num_permutations, seed):
            for name in others:
                null[name].append(effect(parts[name], rows))
    found = []
    for name, part in parts.items():
        value = float(effect(part, label[None])[0])
        drawn = np.concatenate(null[name])
        spread = np.concatenate(
            [_resampled(part, label, weights) for weights in resample_weights(len(label), groups, num_resamples, seed)]
        )
        found.append(
            Association(
                name, measure, len(label), int(part.max()) + 1, percentile_interval(value, spread),
                float(drawn.mean()), p_value(value, drawn), 1.0,
            )
        )  # fmt: skip
    adjusted = holm([each.p_value for each in found])
    found = [replace(each, adjusted=p) for each, p in zip(found, adjusted, strict=True)]
    return sorted(found, key=lambda each: -(each.effect.value or 0.0))


def _is_one_by_group(values: NDArray[np.generic], codes: Codes) -> bool:
    """Return whether all bags of each group have one value."""
    first = np.unique(codes, return_index=True)[1]
    return bool((values == values[first][codes]).all())


def _parts(values: NDArray[np.generic], num_groups: int) -> Codes:
    """Return codes from 0 of the values of a covariate; numbers of many values are cut into parts of equal size."""
    if not np.issubdtype(values.dtype, np.number):
        return np.unique(values.astype(str), return_inverse=True)[1].reshape(-1)
    numbers = values.astype(np.float64)
    known = np.isfinite(numbers)
    num_parts = max(2, min(_MOST_PARTS, num_groups // _LEAST_GROUPS))
    codes = np.zeros(len(numbers), dtype=np.int64)
    if len(np.unique(numbers[known])) <= num_parts:
        codes[known] = np.unique(numbers[known], return_inverse=True)[1].reshape(-1) + 1
    else:
        edges = np.quantile(numbers[known], np.arange(1, num_parts) / num_parts)
        codes[known] = np.searchsorted(np.unique(edges), numbers[known], side="right") + 1
    return np.unique(codes, return_inverse=True)[1].reshape(-1)


def _standard_ranks(numbers: NDArray[np.generic]) -> Array:
    """Return ranks with mean 0 and variance 1; zeros if all are equal."""
    ranks: Array = rankdata(numbers).astype(np.float64)
    ranks -= ranks.mean()
    found: Array = ranks / (ranks.std() or 1.0)
    return found


def _counts(parts: Codes, labels: NDArray[np.generic], num_classes: int) -> Array:
    """Return `(permutations, parts, classes)` numbers of bags of permuted labels, `(permutations, bags)`."""
    num_parts, count = int(parts.max()) + 1, len(labels)
    cells = parts * num_classes + labels.astype(np.int64)
    cells += np.arange(count)[:, None] * (num_parts * num_classes)
    counts = np.bincount(cells.ravel(), minlength=count * num_parts * num_classes)
    return counts.reshape(count, num_parts, num_classes).astype(np.float64)


def _auroc_of_parts(parts: Codes, labels: NDArray[np.generic]) -> Array:
    """Return `(permutations,)` AUROC of the share of a class in the part of a bag, mean over the classes."""
    counts = _counts(parts, labels, int(labels.max()) + 1)
    with np.errstate(invalid="ignore", divide="ignore"):
        shares = counts / counts.sum(axis=2, keepdims=True)
    return _macro_auroc(counts, np.argsort(shares, axis=1, kind="stable"))


def _macro_auroc(counts: Array, order: Codes) -> Array:
    """Return the mean AUROC over the classes of `(..., parts, classes)` counts, with the parts in a rising order.

    Parts of one share are no special case: half the sum of both orders of such a pair is the sum of either order.
    """
    won = np.take_along_axis(counts, order, axis=-2)
    lost = np.take_along_axis(counts.sum(axis=-1, keepdims=True) - counts, order, axis=-2)
    below = np.cumsum(lost, axis=-2) - lost / 2
    pairs = won.sum(axis=-2) * lost.sum(axis=-2)
    areas = np.divide((won * below).sum(axis=-2), pairs, out=np.full(pairs.shape, np.nan), where=pairs > 0)
    with np.errstate(invalid="ignore"):
        known = np.isfinite(areas)
        total = np.where(known, areas, 0).sum(axis=-1)
        means: Array = np.divide(total, known.sum(axis=-1), out=np.full(total.shape, np.nan), where=known.any(axis=-1))
    return means


def _share_of_parts(parts: Codes, ranks: NDArray[np.generic]) -> Array:
    """Return `(permutations,)` shares of the variance of standard ranks between the parts."""
    sizes = np.bincount(parts).astype(np.float64)
    sums = np.stack([np.bincount(parts, weights=row) for row in ranks])
    shares: Array = (sums**2 / sizes).sum(axis=1) / len(parts)
    return shares


def _resampled(parts: Codes, label: NDArray[np.generic], weights: Array) -> Array:
    """Return `(resamples,)` effects of weighted bags, with the shares of the bags themselves."""
    num_parts = int(parts.max()) + 1
    if np.issubdtype(label.dtype, np.integer):
        num_classes = int(label.max()) + 1
        cells = np.zeros((len(label), num_parts * num_classes))
        cells[np.arange(len(label)), parts * num_classes + label.astype(np.int64)] = 1
        counts = (weights @ cells).reshape(len(weights), num_parts, num_classes)
        own = _counts(parts, label[None], num_classes)[0]
        order = np.argsort(own / own.sum(axis=1, keepdims=True), axis=0, kind="stable")
        return _macro_auroc(counts, np.broadcast_to(order, counts.shape))
    cells = (parts[:, None] == np.arange(num_parts)).astype(np.float64)
    numbers = label.astype(np.float64)
    total = weights.sum(axis=1)
    sizes, sums = weights @ cells, (weights * numbers) @ cells
    mean, square = weights @ numbers / total, weights @ numbers**2 / total
    between = np.divide(sums**2, sizes, out=np.zeros_like(sums), where=sizes > 0).sum(axis=1) / total - mean**2
    spread = square - mean**2
    shares: Array = np.divide(between, spread, out=np.full(len(total), np.nan), where=spread > 0)
    return shares
