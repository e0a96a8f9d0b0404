"""Files that a run leaves, metrics.json and predictions.csv, and its metrics as a table on a terminal."""

import csv
from collections.abc import Mapping
from pathlib import Path

import numpy as np
from rich.table import Table
from rich.text import Text

from milpath.data.store.bag_store import BagStore
from milpath.inference.slides_of_bags import slide_shares
from milpath.metrics.conformal.measured_coverage import measured_coverage
from milpath.records.atomic_files import atomic_path, write_json
from milpath.records.prediction_table import Predictions
from milpath.targets import NumericTarget, Target, target_named
from milpath.targets.evaluation import compute_metrics
from milpath.targets.target_file import write_target

Metrics = dict[str, dict[str, float | None]]


def write_results(
    run_dir: Path,
    predictions: Predictions,
    task: str | Target,
    threshold: float = 0.5,
    more: Mapping[str, Mapping[str, float | None]] | None = None,
    groups: Mapping[str, str] | None = None,
) -> Metrics:
    """Write `metrics.json`, `predictions.csv` and `target.json`, and return the metrics of each split.

    Args:
        run_dir: The folder of the run.
        predictions: Predictions of one or more splits.
        task: The target or its name.
        threshold: Operating point of a binary task.
        more: Split to further values, such as the coverage of prediction sets.
        groups: Bag to group (patient), of which each counts once in the interval of a share; `None` if bags are independent.
    """
    metrics: Metrics = {
        split: compute_metrics(part.probabilities, part.labels, task, threshold)
        | dict((more or {}).get(split, {}))
        | _unfamiliar_share(part, groups)
        for split, part in by_split(predictions).items()
    }
    predictions.write_csv(run_dir / "predictions.csv")
    write_target(run_dir, target_named(task))
    write_json(run_dir / "metrics.json", metrics)
    return metrics


def _unfamiliar_share(part: Predictions, groups: Mapping[str, str] | None) -> dict[str, float | None]:
    """Return the share of bags that are referred for being unfamiliar; empty without a bound, and for training bags."""
    if part.unfamiliarity is None or part.splits[0] == "train" or np.isnan(part.unfamiliarity[:, 0]).any():
        return {}
    known = None if groups is None else np.array([str(groups[bag_id]) for bag_id in part.bag_ids])
    share = measured_coverage(part.unfamiliar, known)
    return {
        "unfamiliar_share": share.value, "unfamiliar_share_low": share.low, "unfamiliar_share_high": share.high,
    }  # fmt: skip


def write_slide_attention(path: Path, predictions: Predictions, store: BagStore) -> None:
    """Write bag, slide, number of tiles and share of the attention of every slide of bags with several slides.

    Args:
        path: The table; nothing is written if each bag is a slide.
        predictions: Predictions of bags of the store.
        store: The store.
    """
    if not store.grouped:
        return
    index_of = {bag_id: index for index, bag_id in enumerate(store.bags["bag_id"])}
    with atomic_path(path) as temporary, temporary.open("w", newline="", encoding="utf-8") as file:
        writer = csv.writer(file, lineterminator="\n")
        writer.writerow(["id", "slide", "num_tiles", "attention"])
        for bag_id, attention in zip(predictions.bag_ids, predictions.attention, strict=True):
            for share in slide_shares(store, index_of[bag_id], attention):
                writer.writerow([bag_id, share.slide, share.num_tiles, f"{share.attention:.9g}"])


def by_split(predictions: Predictions) -> dict[str, Predictions]:
    """Return the predictions of each split."""
    return {split: predictions.of_split(split) for split in dict.fromkeys(predictions.splits)}


def labels_in_words(predictions: Predictions, target: NumericTarget) -> str:
    """Return how many bags of each split have a label of each of several targets; empty for one target."""
    counts = {split: target.num_labelled(part.labels) for split, part in by_split(predictions).items()}
    names = next(iter(counts.values()), {})
    sizes = {split: len(part) for split, part in by_split(predictions).items()}
    lines = [
        f"{name}: "
        + ", ".join(f"{counts[split][name]:,} of {sizes[split]:,} {split} bags have a label" for split in counts)
        for name in names
    ]
    return "\n".join(lines)


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
    names = dict.fromkeys(name for values in metrics.values() for name in values)
    for name in names:
        if name.removesuffix("_low").removesuffix("_high") in names.keys() - {name}:
            continue  # an end of the interval of another metric, which is in the report and in metrics.json
        values = [values.get(name) for values in metrics.values()]
        table.add_row(name, *("undefined" if value is None else f"{value:.4f}" for value in values))
    return table
