"""The result files of a run: `metrics.json` and `predictions.csv`."""

from pathlib import Path

from milpath.records.atomic_files import write_json
from milpath.records.prediction_table import Predictions
from milpath.targets.evaluation import compute_metrics

Metrics = dict[str, dict[str, float | None]]


def write_results(run_dir: Path, predictions: Predictions, task: str, threshold: float = 0.5) -> Metrics:
    """Write `metrics.json` and `predictions.csv` and return the metrics of each split.

    Args:
        run_dir: The folder of the run.
        predictions: Predictions of one or more splits.
        task: "binary", "nominal" or "ordinal".
        threshold: Operating point of a binary task.
    """
    parts = {split: predictions.of_split(split) for split in dict.fromkeys(predictions.splits)}
    metrics: Metrics = {
        split: compute_metrics(part.probabilities, part.labels, task, threshold) for split, part in parts.items()
    }
    predictions.write_csv(run_dir / "predictions.csv")
    write_json(run_dir / "metrics.json", metrics)
    return metrics
