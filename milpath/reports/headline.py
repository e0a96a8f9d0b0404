"""The numbers that stand at the top: what they are called, their intervals, and one sentence in plain words."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from milpath.metrics.evaluated_bags import Outcomes
from milpath.metrics.intervals import Interval, metric_intervals
from milpath.metrics.weighted_metrics import METRICS
from milpath.reports.figures import SPLIT_NAMES

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
}
HEADLINES = {
    "binary": ("auroc", "sensitivity", "specificity", "average_precision"),
    "nominal": ("accuracy", "balanced_accuracy", "auroc", "quadratic_kappa"),
    "ordinal": ("quadratic_kappa", "accuracy", "auroc", "balanced_accuracy"),
}


@dataclass(frozen=True)
class MetricRow:
    """A metric on every split.

    Attributes:
        name: As in `metrics.json`.
        title: As a person reads it.
        intervals: Split to value and interval.
    """

    name: str
    title: str
    intervals: Mapping[str, Interval]


def metric_rows(outcomes: Mapping[str, Outcomes], num_resamples: int = 1000, seed: int = 0) -> list[MetricRow]:
    """Return every metric of every split with its interval, those of the headline first.

    Args:
        outcomes: Split to outcomes.
        num_resamples: Of the intervals.
        seed: Of the resamples.
    """
    task = next(iter(outcomes.values())).task
    names = [name for name in METRICS if name != "quadratic_kappa" or task != "binary"]
    names.sort(key=lambda name: (name not in HEADLINES[task], _place(HEADLINES[task], name)))
    by_split = {split: metric_intervals(each, names, num_resamples, seed=seed) for split, each in outcomes.items()}
    return [MetricRow(name, NAMES[name], {split: values[name] for split, values in by_split.items()}) for name in names]


def in_words(outcomes: Outcomes, split: str, class_names: Sequence[str], intervals: Mapping[str, Interval]) -> str:
    """Return what the headline means, counted in bags.

    Args:
        outcomes: Of one split.
        split: Its name.
        class_names: Names of the classes.
        intervals: Metric to interval on this split.
    """
    where = f"Of {outcomes.num_bags:,} {SPLIT_NAMES.get(split, split)} bags"
    if outcomes.task != "binary":
        near = int((abs(outcomes.predicted - outcomes.labels) <= 1).sum())
        words = f"{where}, {int(outcomes.correct.sum()):,} are called what they are"
        words += _between(intervals["accuracy"])
        return words + (f", and {near:,} at most one class beside it." if outcomes.task == "ordinal" else ".")
    positive, negative = (outcomes.labels == 1).sum(), (outcomes.labels == 0).sum()
    found = ((outcomes.labels == 1) & outcomes.correct).sum()
    alarms = ((outcomes.labels == 0) & ~outcomes.correct).sum()
    return (
        f"{where}, {positive:,} are {class_names[1]}: the network finds {found:,} of them"
        f"{_between(intervals['sensitivity'])}. It calls {alarms:,} of {negative:,} {class_names[0]} bags {class_names[1]}."
    )


def _between(interval: Interval) -> str:
    """Return a share with its interval in parentheses."""
    if interval.value is None:
        return ""
    if interval.low is None or interval.high is None:
        return f" ({interval.value:.0%})"
    return f" ({interval.value:.0%}, 95% interval {interval.low:.0%} to {interval.high:.0%})"


def _place(order: Sequence[str], name: str) -> int:
    return order.index(name) if name in order else len(order)
