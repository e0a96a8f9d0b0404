"""Linear probe: can a property of slides, such as the scanner, be told from their embeddings?"""

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from scipy.stats import rankdata

from milpath.metrics.intervals import Interval, percentile_interval, resample_weights
from milpath.metrics.ranking import auroc
from milpath.metrics.shortcuts.permutation import group_codes, p_value, permuted

Array = NDArray[np.float64]
# The kernel of standardised embeddings has a mean diagonal of 1; with a ridge of the same size each bag counts half as much
# as all directions that it has to itself. It is fixed, since a choice by the labels would have to be made anew in every
# permutation.
_RIDGE = 1.0
CHANCE = {"auroc": 0.5, "rank correlation": 0.0}


@dataclass(frozen=True)
class Probe:
    """How well a property can be told from embeddings of groups that the probe was not fitted on.

    Attributes:
        name: The property.
        measure: "auroc" (mean over the values, one against the rest) or "rank correlation" (Spearman) for numbers.
        num_bags: Number of bags.
        values: The values, for classes; empty for numbers.
        effect: The measure with its 95% interval by group.
        balanced_accuracy: Mean share of the bags of each value that are told right, with its interval; `None` for numbers.
        chance: Mean of the measure under permutation.
        chance_high: 95th percentile of it.
        p_value: Of the permutation test.
    """

    name: str
    measure: str
    num_bags: int
    values: tuple[str, ...]
    effect: Interval
    balanced_accuracy: Interval | None
    chance: float
    chance_high: float
    p_value: float


def linear_probe(
    name: str,
    embeddings: NDArray[np.floating],
    values: NDArray[np.generic],
    folds: NDArray[np.int64],
    groups: NDArray[np.str_] | None = None,
    *,
    num_permutations: int = 199,
    num_resamples: int = 1000,
    seed: int = 0,
) -> Probe:
    """Fit a ridge regression on all folds but one, and predict that one, for every fold.

    Embeddings are standardised on the fitted folds. A value is the one whose indicator lies furthest above its share there,
    relative to the variance of the indicator, so that rare values are told as often as frequent ones.

    Args:
        name: The property.
        embeddings: `(bags, dim)`.
        values: `(bags,)` texts, or numbers.
        folds: `(bags,)` fold of each bag; no group is in two folds.
        groups: `(bags,)` patient of each bag, kept together in permutations and resamples.
        num_permutations: Of the values, by group; the folds stay.
        num_resamples: Bootstrap resamples of the out-of-fold predictions.
        seed: Seed of both.

    References:
        Alain, Bengio. Understanding intermediate layers using linear classifier probes. ICLR workshop 2017.
        Howard et al. The impact of site-specific digital histology signatures on deep learning model accuracy and bias.
        Nature Communications 12, 2021 (what such a probe finds in slides).

    Raises:
        ValueError: If embeddings are not finite or all the same, or there are fewer than two folds or values.
    """
    numbers = np.issubdtype(values.dtype, np.number)
    names, codes = np.unique(values if numbers else values.astype(str), return_inverse=True)
    if len(names) < 2 or len(np.unique(folds)) < 2:
        raise ValueError(
            f"a probe of {name} needs two values and two folds, got {len(names)} and {len(np.unique(folds))}"
        )
    if not np.isfinite(embeddings).all():
        raise ValueError("embeddings are not finite; encode the slides again")
    if not np.ptp(embeddings, axis=0).any():
        raise ValueError("all embeddings are the same, so nothing can be told from them")
    smoothers = [_Smoother(embeddings[folds != fold], embeddings[folds == fold]) for fold in np.unique(folds)]
    targets = rankdata(values).astype(np.float64) if numbers else codes.reshape(-1).astype(np.int64)
    portions = [
        _judged(smoothers, rows, folds, len(names))
        for rows in permuted(targets, group_codes(groups), num_permutations, seed)
    ]
    null = np.concatenate([_effects(scores, rows, len(names)) for scores, rows in portions])
    null = null[np.isfinite(null)]  # of few groups, all may get one value
    scores, rows = _judged(smoothers, targets[None], folds, len(names))
    effect = float(_effects(scores, rows, len(names))[0])
    effects, accuracies = [], []
    for weights in resample_weights(len(values), groups, num_resamples, seed):
        effects.append(_weighted_effect(scores[0], targets, weights, numbers))
        if not numbers:
            accuracies.append(_balanced(scores[0].argmax(axis=1) == targets, targets, weights))
    accuracy = None
    if not numbers:
        right = float(_balanced(scores[0].argmax(axis=1) == targets, targets, np.ones((1, len(targets))))[0])
        accuracy = percentile_interval(right, np.concatenate(accuracies))
    return Probe(
        name, "rank correlation" if numbers else "auroc", len(values), () if numbers else tuple(map(str, names)),
        percentile_interval(effect, np.concatenate(effects)), accuracy, float(null.mean()),
        float(np.quantile(null, 0.95)), p_value(effect, null),
    )  # fmt: skip


class _Smoother:
    """The linear map from targets of the fitted bags to predictions of others: ridge regression does not depend on them."""

    def __init__(self, fitted: NDArray[np.floating], others: NDArray[np.floating]) -> None:
        mean, deviation = fitted.mean(axis=0, dtype=np.float64), fitted.std(axis=0, dtype=np.float64)
        scale = np.where(deviation > 1e-9 * max(1.0, float(deviation.max(initial=0.0))), deviation, np.inf)
        width = np.sqrt(fitted.shape[1])
        known, unknown = (fitted - mean) / scale / width, (others - mean) / scale / width
        if known.shape[1] < len(known):
            inverse = np.linalg.solve(known.T @ known + _RIDGE * np.eye(known.shape[1]), known.T)
            self.weights: Array = unknown @ inverse
        else:
            gram = known @ known.T + _RIDGE * np.eye(len(known))
            self.weights = np.linalg.solve(gram, (unknown @ known.T).T).T


def _judged(
    smoothers: list[_Smoother], targets: NDArray[np.generic], folds: NDArray[np.int64], num_values: int
) -> tuple[Array, NDArray[np.generic]]:
    """Return `(permutations, bags, values)` out-of-fold scores (one for numbers), and the permuted targets."""
    numbers = not np.issubdtype(targets.dtype, np.integer)
    coded = targets[..., None] if numbers else (targets[..., None] == np.arange(num_values))
    coded = coded.astype(np.float64)
    scores = np.empty_like(coded)
    for fold, smoother in zip(np.unique(folds), smoothers, strict=True):
        fitted = coded[:, folds != fold]
        mean = fitted.mean(axis=1, keepdims=True)
        spread = fitted.var(axis=1, keepdims=True)
        above = np.einsum("ij,pjc->pic", smoother.weights, fitted - mean, optimize=True)
        # A value that is absent from the fitted folds cannot be told.
        scores[:, folds == fold] = np.divide(above, spread, out=np.full_like(above, -1e9), where=spread > 0)
    return scores, targets


def _effects(scores: Array, targets: NDArray[np.generic], num_values: int) -> Array:
    """Return `(permutations,)` AUROCs or rank correlations."""
    ranks = rankdata(scores, axis=1)
    if not np.issubdtype(targets.dtype, np.integer):
        own = ranks[..., 0] - ranks[..., 0].mean(axis=1, keepdims=True)
        true = targets.astype(np.float64) - targets.mean(axis=1, keepdims=True)
        spread = np.sqrt((own**2).sum(axis=1) * (true**2).sum(axis=1))
        found: Array = np.divide((own * true).sum(axis=1), spread, out=np.full(len(own), np.nan), where=spread > 0)
        return found
    has = targets[..., None] == np.arange(num_values)
    inside = has.sum(axis=1).astype(np.float64)
    outside = targets.shape[1] - inside
    won = (ranks * has).sum(axis=1) - inside * (inside + 1) / 2
    areas = np.divide(won, inside * outside, out=np.full_like(won, np.nan), where=inside * outside > 0)
    known = np.isfinite(areas)
    total = np.where(known, areas, 0).sum(axis=1)
    means: Array = np.divide(total, known.sum(axis=1), out=np.full(len(total), np.nan), where=known.any(axis=1))
    return means


def _weighted_effect(scores: Array, targets: NDArray[np.generic], weights: Array, numbers: bool) -> Array:
    """Return `(resamples,)` effects of weighted bags."""
    if numbers:
        own, true = rankdata(scores[:, 0]).astype(np.float64), targets.astype(np.float64)
        total = weights.sum(axis=1)
        means = [weights @ each / total for each in (own, true, own * true, own**2, true**2)]
        spread = np.sqrt(np.maximum(means[3] - means[0] ** 2, 0) * np.maximum(means[4] - means[1] ** 2, 0))
        shared = means[2] - means[0] * means[1]
        found: Array = np.divide(shared, spread, out=np.full(len(total), np.nan), where=spread > 0)
        return found
    areas = [auroc(targets == value, scores[:, value], weights) for value in range(scores.shape[1])]
    return np.asarray(np.mean(areas, axis=0))


def _balanced(right: NDArray[np.bool_], targets: NDArray[np.generic], weights: Array) -> Array:
    """Return `(resamples,)` mean shares of the bags of each value that are told right; values without bags do not count."""
    has = (targets[:, None] == np.unique(targets)).astype(np.float64)
    inside, hits = weights @ has, weights @ (has * right[:, None])
    shares = np.divide(hits, inside, out=np.zeros_like(hits), where=inside > 0)
    return np.asarray(shares.sum(axis=1) / (inside > 0).sum(axis=1))
