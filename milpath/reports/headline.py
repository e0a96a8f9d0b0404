"""Headline of a report: titles of the metrics, their intervals, and one sentence that sums them up."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from milpath.metrics.evaluated_several import MACRO
from milpath.metrics.intervals import Interval, metric_intervals
from milpath.metrics.number_metrics import ALL_NUMBER_METRICS
from milpath.metrics.weighted_metrics import METRICS, own_metric_names
from milpath.reports.plots.figures import SPLIT_NAMES
from milpath.targets import Target

NAMES = {
    "auroc": "AUROC",
    "average_precision": "Average precision",
    "accuracy": "Accuracy",
    "balanced_accuracy": "Balanced accuracy",
    "sensitivity": "Sensitivity",
    "specificity": "Specificity",
    "f1": "F1",
    "brier": "Brier score",
    "ece": "Calibration error (ECE)",
    "quadratic_kappa": "Quadratic-weighted kappa",
    "mae": "Mean absolute error",
    "rmse": "Root mean squared error",
    "r2": "R²",
    "pearson": "Pearson correlation",
    "spearman": "Spearman correlation",
    "coverage": "Coverage between the outer quantiles",
    "pinball": "Pinball loss of the quantiles",
    "width": "Distance between the outer quantiles",
    "c_index": "Concordance index (Harrell)",
    "uno_c_index": "Concordance index (Uno)",
    "time_auc": "Time-dependent AUROC, mean",
    "integrated_brier": "Integrated Brier score",
}

# A percentile bootstrap over fewer independent bags, or groups, covers visibly less than it says.
ENOUGH = 10

_AT_TIME = {
    "time_auc": "AUROC",
    "brier": "Brier score",
    "calibration": "Calibration, predicted minus observed risk,",
}


@dataclass(frozen=True)
class MetricRow:
    """One metric on every split.

    Attributes:
        name: As in `metrics.json`.
        title: As shown in the report.
        intervals: Split to value and interval.
    """

    name: str
    title: str
    intervals: Mapping[str, Interval]


def metric_rows(
    outcomes: Mapping[str, Any], target: Target, num_resamples: int = 1000, seed: int = 0
) -> list[MetricRow]:
    """Return every metric of every split with its interval, headline metrics first.

    Args:
        outcomes: Split to outcomes.
        target: The target of the run.
        num_resamples: Bootstrap resamples of each interval.
        seed: Seed of the resamples.
    """
    reported = target.reported_metrics
    names = [name for name in (*METRICS, *own_metric_names()) if name in reported]
    names += [name for name in reported if name not in names]
    names = [name for name in names if name not in target.hidden_metrics]
    names.sort(key=lambda name: (name not in target.headline, _place(target.headline, name)))
    by_split = {split: metric_intervals(each, names, num_resamples, seed=seed) for split, each in outcomes.items()}
    return [
        MetricRow(name, metric_title(name), {split: values[name] for split, values in by_split.items()})
        for name in names
    ]


def metric_title(name: str) -> str:
    """Return the title of a metric.

    Example:
        >>> metric_title("auroc"), metric_title("mean_cost")
        ('AUROC', 'Mean cost')
        >>> metric_title("brier_at_12"), metric_title("mae_tumour_size")
        ('Brier score at 12', 'Mean absolute error, tumour size')
    """
    if name in NAMES:
        return NAMES[name]
    target, _, of_one = name.rpartition("/")
    if target:
        return f"{target}: {metric_title(of_one)}"
    if name.startswith(MACRO):
        return f"{metric_title(name.removeprefix(MACRO))}, mean over targets"
    metric, _, time = name.rpartition("_at_")
    if metric in _AT_TIME:
        return f"{_AT_TIME[metric]} at {time}"
    metric, _, quantity = name.partition("_")
    if quantity and metric in ALL_NUMBER_METRICS:
        return f"{NAMES[metric]}, {quantity.replace('_', ' ')}"
    return name.replace("_", " ").capitalize()


def in_words(
    outcomes: Any, target: Target, split: str, class_names: Sequence[str], intervals: Mapping[str, Interval]
) -> str:
    """Return the headline in one sentence, counted in bags, of how many groups if they are grouped.

    Args:
        outcomes: The evaluated bags of one split.
        target: The target of the run.
        split: Name of the split.
        class_names: Names of the classes.
        intervals: Metric to interval on this split.
    """
    groups = num_groups(outcomes)
    of_groups = f" of {groups:,} groups" if groups else ""
    where = f"Of {outcomes.num_bags:,} {SPLIT_NAMES.get(split, split)} bags{of_groups}"
    return target.sentence(outcomes, where, class_names, intervals)


def num_groups(outcomes: Any) -> int:
    """Return of how many groups, such as patients, evaluated bags are; 0 if all bags are independent."""
    groups = getattr(outcomes, "groups", None)  # the outcomes of your own target may have none
    return 0 if groups is None else len(np.unique(groups))


def few_in_words(outcomes: Any) -> str:
    """Return what to know of intervals over few bags or groups, as a sentence; empty if there are enough.

    Args:
        outcomes: The evaluated bags of one split.
    """
    groups = num_groups(outcomes)
    count, noun = (groups, "group") if groups else (outcomes.num_bags, "bag")
    if count >= ENOUGH:
        return ""
    return f"Intervals over {count} {noun}{'s' if count != 1 else ''} are rough, and often too narrow."


def _place(order: Sequence[str], name: str) -> int:
    return order.index(name) if name in order else len(order)
