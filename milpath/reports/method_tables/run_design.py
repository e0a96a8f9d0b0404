"""What the runs of a method table are - folds, draws or seeds - and the statistics that fit them."""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from enum import Enum

import numpy as np
from numpy.typing import NDArray
from scipy import stats

from milpath.metrics.comparison import PairedTest, corrected_resampled_t_test, paired_t_test
from milpath.metrics.evaluated_bags import Outcomes
from milpath.metrics.intervals import Interval, bootstrap_interval
from milpath.metrics.weighted_metrics import metric_function

Array = NDArray[np.float64]
# Fewer draws give a t interval of no use.
_LEAST_DRAWS = 3


@dataclass(frozen=True)
class FoldResult:
    """The test split of one training, or the reason it failed.

    Attributes:
        method: Name of the method.
        repeat: 0-based repeat of the cross-validation.
        fold: 0-based fold.
        bag_ids: Name of each bag of the test split.
        outcomes: These bags, evaluated; None if the training failed.
        num_train: Number of bags in the training split.
        tiles_sha256: Digest of the tiles of all bags, which tells bags of one name apart; empty if it is not known.
        splits_sha256: Digest of which bags train and which are tested; empty if it is not known.
        failure: Reason the training failed; None if it did not.
    """

    method: str
    repeat: int
    fold: int
    bag_ids: Sequence[str] = ()
    outcomes: Outcomes | None = None
    num_train: int = 0
    tiles_sha256: str = ""
    splits_sha256: str = ""
    failure: str | None = None

    @property
    def name(self) -> str:
        """Repeat and fold, as shown in tables."""
        return f"repeat {self.repeat}, fold {self.fold}"


class Design(Enum):
    """How the runs of a method differ."""

    FOLDS = "folds of a cross-validation"
    DRAWS = "training and test bags drawn anew in each run"
    SEEDS = "one split, and other seeds"
    UNKNOWN = "bags of the same names, and it is not known which of them are the same"


def design_of(folds: Sequence[FoldResult]) -> Design:
    """Return how the runs of one method differ.

    In a cross-validation no bag is tested twice in a repeat; of splits that overlap, each trains on other bags. Where bags
    of one name are tested again, what they hold tells bags that are drawn anew from those of one split.
    """
    tested = [(fold.repeat, bag_id) for fold in folds for bag_id in fold.bag_ids]
    if len(set(tested)) == len(tested):
        return Design.FOLDS
    done = [fold for fold in folds if fold.outcomes is not None]
    tiles, splits = {fold.tiles_sha256 for fold in done}, {fold.splits_sha256 for fold in done}
    if "" in tiles:
        return Design.UNKNOWN
    if len(tiles) == len(done):
        return Design.DRAWS
    if len(tiles) > 1 or "" in splits:
        return Design.UNKNOWN
    return Design.FOLDS if len(splits) > 1 else Design.SEEDS


def interval_of(
    folds: Sequence[FoldResult], defined: Mapping[tuple[int, int], float], metric: str, design: Design,
    num_resamples: int, seed: int,
) -> Interval:  # fmt: skip
    """Return the 95% interval of the mean: over draws by Student's t, otherwise over bags by the bootstrap."""
    if design is not Design.DRAWS:
        return bootstrap_of_bags(folds, metric, num_resamples, seed)
    values = np.array(list(defined.values()))
    mean = float(values.mean())
    if len(values) < _LEAST_DRAWS:
        return Interval(mean, None, None)
    reach = float(stats.t.ppf(0.975, len(values) - 1) * stats.sem(values))
    return Interval(mean, mean - reach, mean + reach)


def paired_test_of(
    folds: Sequence[FoldResult], own: Mapping[tuple[int, int], float], reference: Sequence[FoldResult],
    others: Mapping[tuple[int, int], float], design: Design,
) -> PairedTest | None:  # fmt: skip
    """Return the paired test against a reference that fits the design; None if none does: seeds do not test other bags."""
    if design in (Design.SEEDS, Design.UNKNOWN):
        return None
    if design is Design.FOLDS:
        return corrected_test(folds, own, others)
    drawn, drawn_there = _drawn(folds), _drawn(reference)
    shared = [key for key in _shared(own, others) if drawn[key] == drawn_there[key]]
    return paired_t_test([own[key] for key in shared], [others[key] for key in shared]) if len(shared) > 1 else None


def _drawn(folds: Sequence[FoldResult]) -> dict[tuple[int, int], str]:
    return {(fold.repeat, fold.fold): fold.tiles_sha256 for fold in folds}


def _shared(own: Mapping[tuple[int, int], float], others: Mapping[tuple[int, int], float]) -> list[tuple[int, int]]:
    """Return the runs whose value both methods have."""
    return [key for key in own if np.isfinite(others.get(key, np.nan))]


def values_of(folds: Sequence[FoldResult], metric: str) -> dict[tuple[int, int], float]:
    """Return the value on each finished fold, NaN where the metric is undefined."""
    function = metric_function(metric)
    return {(fold.repeat, fold.fold): float(function(fold.outcomes)) for fold in folds if fold.outcomes is not None}


def bootstrap_of_bags(folds: Sequence[FoldResult], metric: str, num_resamples: int, seed: int) -> Interval:
    """Return the bootstrap interval of the mean over folds, resampling bags."""
    bag_ids, groups = _bags_of(folds)
    return bootstrap_interval(_mean_over(folds, metric, bag_ids), len(bag_ids), groups, num_resamples, seed=seed)


def difference_of_seeds(
    folds: Sequence[FoldResult], reference: Sequence[FoldResult], metric: str, num_resamples: int, seed: int
) -> Interval | None:
    """Return the mean over seeds minus that of a reference, with its paired bootstrap interval over bags or their groups.

    None unless both have been tested on the same bags.
    """
    (bag_ids, groups), (bags_there, _) = _bags_of(folds), _bags_of(reference)
    if not bag_ids or bag_ids != bags_there:
        return None
    own, other = _mean_over(folds, metric, bag_ids), _mean_over(reference, metric, bag_ids)
    return bootstrap_interval(
        lambda weights: own(weights) - other(weights), len(bag_ids), groups, num_resamples, seed=seed
    )


def _bags_of(folds: Sequence[FoldResult]) -> tuple[list[str], NDArray[np.str_] | None]:
    """Return the sorted names of all tested bags and their groups; None if some bag has none."""
    done = [(fold.bag_ids, fold.outcomes) for fold in folds if fold.outcomes is not None]
    bag_ids = sorted({bag_id for names, _ in done for bag_id in names})
    by_bag = {
        bag_id: str(group)
        for names, outcomes in done
        if outcomes.groups is not None
        for bag_id, group in zip(names, outcomes.groups, strict=True)
    }
    return bag_ids, np.array([by_bag[bag_id] for bag_id in bag_ids]) if len(by_bag) == len(bag_ids) else None


def _mean_over(folds: Sequence[FoldResult], metric: str, bag_ids: Sequence[str]) -> Callable[[Array | None], Array]:
    """Return a function from weights of the bags `(resamples, bags)` to the mean over folds `(resamples,)`."""
    done = [(fold.bag_ids, fold.outcomes) for fold in folds if fold.outcomes is not None]
    position = {bag_id: index for index, bag_id in enumerate(bag_ids)}
    places = [np.array([position[bag_id] for bag_id in names]) for names, _ in done]
    function = metric_function(metric)

    def statistic(weights: Array | None) -> Array:
        each = [
            function(outcomes, None if weights is None else weights[:, place])
            for place, (_, outcomes) in zip(places, done, strict=True)
        ]
        values = np.stack(each)
        defined = np.isfinite(values)
        count = defined.sum(axis=0)
        total = np.where(defined, values, 0.0).sum(axis=0)
        return np.asarray(np.divide(total, count, out=np.full(total.shape, np.nan), where=count > 0))

    return statistic


def corrected_test(
    folds: Sequence[FoldResult], own: Mapping[tuple[int, int], float], others: Mapping[tuple[int, int], float]
) -> PairedTest | None:
    """Return the paired test on the folds that both methods have, or None with fewer than two."""
    shared = _shared(own, others)
    ratios = [
        fold.outcomes.num_bags / fold.num_train
        for fold in folds
        if fold.outcomes is not None and fold.num_train > 0 and (fold.repeat, fold.fold) in shared
    ]
    if len(shared) < 2 or not ratios:
        return None
    first, second = [own[key] for key in shared], [others[key] for key in shared]
    return corrected_resampled_t_test(first, second, float(np.mean(ratios)))
