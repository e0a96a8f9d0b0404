"""Files that a run leaves, metrics.json and predictions.csv, and its metrics as a table on a terminal."""

from collections.abc import Mapping
from pathlib import Path

from rich.table import Table
from rich.text import Text

from milpath.records.atomic_files import write_json
from milpath.records.prediction_table import Predictions
from milpath.targets import Target
from milpath.targets.evaluation import compute_metrics

Metrics = dict[str, dict[str, float | None]]


def write_results(
    run_dir: Path,
    predictions: Predictions,
    task: str | Target,
    threshold: float = 0.5,
    more: Mapping[str, Mapping[str, float | None]] | None = None,
) -> Metrics:
    """Write `metrics.json` and `predictions.csv` and return the metrics of each split.

    Args:
        run_dir: The folder of the run.
        predictions: Predictions of one or more splits.
        task: The target or its name.
        threshold: Operating point of a binary task.
        more: Split to further values, such as the coverage of prediction sets.
    """
    parts = {split: predictions.of_split(split) for split in dict.fromkeys(predictions.splits)}
    metrics: Metrics = {
        split: compute_metrics(part.probabilities, part.labels, task, threshold) | dict((more or {}).get(split, {}))
        for split, part in parts.items()
    }
    predictions.write_csv(run_dir / "predictions.csv")
    write_json(run_dir / "metrics.json", metrics)
    return metrics


def summary_table(metrics: Mapping[str, Mapping[str, float | None]], title: str = "") -> Table:
    """Return a table of metrics by split.

    Args:
        metrics: Split to metric to value, as in `metrics.json`; None if a metric is undefined on the split.
        title: Printed above, usually the run folder.
    """
    table = Table(title=Text(title))  # in a string, rich would read [b] as markup
    table.add_column("metric")
    for split in metrics:
        table.add_column(split, justify="right")
    names = list(dict.fromkeys(name for values in metrics.values() for name in values))
    for name in names:
        values = [values.get(name) for values in metrics.values()]
        table.add_row(name, *("undefined" if value is None else f"{value:.4f}" for value in values))
    return table
