"""Whether results differ between groups of bags, such as hospitals, beyond chance."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace

import numpy as np
from numpy.typing import NDArray

from milpath.metrics.evaluated_bags import EvaluatedBags, Outcomes
from milpath.metrics.intervals import Interval, percentile_interval, resample_weights
from milpath.metrics.shortcuts.exchangeable_bags import PermutedColumn, permuted_column
from milpath.metrics.shortcuts.permutation import group_codes, holm, p_value
from milpath.metrics.survival.evaluated_times import EvaluatedTimes
from milpath.metrics.weighted_metrics import metric_function

Array = NDArray[np.float64]
Codes = NDArray[np.int64]


@dataclass(frozen=True)
class GroupDifference:
    """How the result on the bags with one value differs from that on all others.

    Attributes:
        column: The column, such as `scanner`.
        value: The value.
        metric: Name of the metric.
        num_bags: Bags that have the value.
        difference: Result on them minus that on the others, with its 95% interval by patient.
        p_value: Two-sided, of a permutation of the values; `None` if the metric is undefined on one side, or no two bags may
            exchange their values.
        adjusted: The same, adjusted by Holm for all values of all columns that are compared.
        by_group: Whether bags of one patient were kept together.
        how: How the values were permuted, in words.
    """

    column: str
    value: str
    metric: str
    num_bags: int
    difference: Interval
    p_value: float | None
    adjusted: float | None
    by_group: bool = False
    how: str = "values permuted within classes"


def group_differences(
    outcomes: Outcomes,
    column: str,
    values: NDArray[np.str_],
    metric: str,
    num_permutations: int = 999,
    num_resamples: int = 1000,
    seed: int = 0,
) -> list[GroupDifference]:
    """Return the difference of each value of a column from all others; of two values only that of the first.

    The values are permuted among the bags of one class, since a hospital with more malignant slides may have another
    accuracy without being read worse. Of survival they are permuted among the bags with an event and among those without,
    since hospitals differ in how long they follow their patients. Where the bags have patients, whole patients exchange
    their values, those with bags of several classes among each other, and several values of one patient are permuted
    within the patient, see `permuted_column`.

    Args:
        outcomes: Evaluated bags of one split.
        column: Name of the column.
        values: `(bags,)`.
        metric: Name of the metric.
        num_permutations: Of the values.
        num_resamples: Bootstrap resamples of the intervals.
        seed: Seed of both.

    Returns:
        Not yet adjusted for several tests, see `adjusted_together`.
    """
    function = metric_function(metric)
    names, codes = np.unique(values, return_inverse=True)
    codes = codes.reshape(-1).astype(np.int64)
    shown = range(1 if len(names) == 2 else len(names))
    observed = _differences(function, outcomes, codes[None], shown)[0]
    drawn = _permuted(outcomes, codes, num_permutations, seed)
    portion = max(1, 2_000_000 // outcomes.num_bags)
    null = np.concatenate(
        [
            np.abs(_differences(function, outcomes, drawn.rows[start : start + portion], shown))
            for start in range(0, num_permutations, portion)
        ]
    )
    if (drawn.rows == codes).all():
        null[:] = np.nan  # a p-value of 1 would say that nothing was found where nothing could be
    resampled = np.concatenate(
        [
            np.stack([_difference(function, outcomes, codes == value, weights) for value in shown], axis=1)
            for weights in resample_weights(outcomes.num_bags, outcomes.groups, num_resamples, seed)
        ]
    )
    found = []
    by_group = outcomes.groups is not None
    for place, value in enumerate(shown):
        difference = percentile_interval(float(observed[place]), resampled[:, place])
        defined = null[np.isfinite(null[:, place]), place]
        p = None if difference.value is None or not len(defined) else p_value(abs(difference.value), defined)
        found.append(
            GroupDifference(
                column, str(names[value]), metric, int((codes == value).sum()), difference, p, p, by_group, drawn.how
            )
        )
    return found


def in_one_sentence(differences: Sequence[GroupDifference], metric_title: str) -> str:
    """Return whether results differ between the values of a column, in words; empty if nothing was compared.

    Args:
        differences: Of one column, adjusted for all that were compared.
        metric_title: The metric as it is shown.

    Example:
        >>> less = Interval(-0.2, -0.3, -0.1)
        >>> said = in_one_sentence([GroupDifference("site", "a", "auroc", 20, less, 0.001, 0.002)], "AUROC")
        >>> said.partition(" (values")[0]
        'AUROC by site: a differs from the others by -0.20 (-0.30 to -0.10), p = 0.002'
    """
    tested = [each for each in differences if each.adjusted is not None]
    if not tested:
        return ""
    how = f"{tested[0].how}, Holm"
    column = tested[0].column.replace("_", " ")
    found = [each for each in tested if each.adjusted is not None and each.adjusted < 0.05]
    if not found:
        least = min(each.adjusted for each in tested if each.adjusted is not None)
        return f"{metric_title} by {column}: no difference beyond chance, smallest p = {least:.2g} ({how})."
    words = []
    for each in found:
        ends = each.difference
        interval = "" if ends.low is None or ends.high is None else f" ({ends.low:+.2f} to {ends.high:+.2f})"
        words.append(f"{each.value} differs from the others by {ends.value:+.2f}{interval}, p = {each.adjusted:.2g}")
    return f"{metric_title} by {column}: {'; '.join(words)} ({how})."


def adjusted_together(differences: Sequence[GroupDifference]) -> list[GroupDifference]:
    """Return the differences with p-values that are adjusted for all of them (Holm)."""
    tested = [each for each in differences if each.p_value is not None]
    adjusted = iter(holm([each.p_value for each in tested if each.p_value is not None]))
    return [each if each.p_value is None else replace(each, adjusted=next(adjusted)) for each in differences]


def _permuted(outcomes: Outcomes, codes: Codes, num_permutations: int, seed: int) -> PermutedColumn:
    """Return permuted values: within each class or kind, and by patient where known."""
    kinds, title = np.zeros(outcomes.num_bags, dtype=np.int64), "classes"
    if isinstance(outcomes, EvaluatedBags):
        kinds = outcomes.labels
    if isinstance(outcomes, EvaluatedTimes):
        kinds, title = outcomes.event.astype(np.int64), "events and censored times"
    return permuted_column(codes, kinds, group_codes(outcomes.groups), num_permutations, seed, title)


def _differences(function: Callable[..., Array], outcomes: Outcomes, rows: Codes, shown: Sequence[int]) -> Array:
    """Return `(permutations, shown values)` differences."""
    ones = np.ones(rows.shape[1])
    return np.stack([_difference(function, outcomes, rows == value, ones) for value in shown], axis=1)


def _difference(function: Callable[..., Array], outcomes: Outcomes, chosen: NDArray[np.bool_], weights: Array) -> Array:
    """Return the results on chosen bags minus those on the others; not a number where one of them is undefined."""
    return np.asarray(function(outcomes, weights * chosen) - function(outcomes, weights * ~chosen))
