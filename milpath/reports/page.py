"""The page of a run: one HTML file that opens from disk, and a folder of pictures beside it."""

import base64
import io
from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd

from milpath.data.store.bag_store import BagStore
from milpath.inference.overlays import SlidePicture
from milpath.inference.sharpest_bags import draw_run_extremes
from milpath.metrics.attention_quality import AttentionQuality, attention_entropy, attention_quality
from milpath.metrics.evaluated_bags import Outcomes
from milpath.metrics.subgroups import grade_rows, subgroup_tables
from milpath.records.atomic_files import write_text
from milpath.reports.cases import case_table
from milpath.reports.decision_figures import calibration_plot, risk_coverage_plot
from milpath.reports.figures import SPLIT_NAMES, confusion_plot, histogram_plot, precision_recall_plot, roc_plot
from milpath.reports.headline import NAMES, in_words, metric_rows
from milpath.reports.pictures import CasePictures, draw_cases
from milpath.reports.plot_style import Plot
from milpath.reports.rendering import render
from milpath.reports.run_folder import RunFolder, groups_of, read_run
from milpath.reports.second_reader import second_reader
from milpath.reports.training_figures import training_plots
from milpath.targets import Target, target_named
from milpath.targets.evaluation import make_outcomes

PICTURES = "report_files"


def write_report(
    run_dir: Path,
    *,
    task: str,
    threshold: float = 0.5,
    temperature: float = 1.0,
    defer_below: float = 0.0,
    bags: pd.DataFrame | None = None,
    store: BagStore | None = None,
    groups: Mapping[str, str] | None = None,
    subgroup_columns: Sequence[str] | None = None,
    slide_picture: Callable[[str], SlidePicture | None] | None = None,
    num_pictures: int = 100,
    num_resamples: int = 1000,
    title: str | None = None,
) -> Path:
    """Write `report.html` into a run folder, and the pictures of the most wrong cases into `report_files` beside it.

    Args:
        run_dir: Folder with `predictions.csv`, and what else a run leaves.
        task: "binary", "nominal" or "ordinal".
        threshold: Operating point the run used (binary).
        temperature: What the run divided its logits by, so that the page can show what that changed.
        defer_below: Confidence below which a bag goes to a person.
        bags: Table with `bag_id` and what is known of each bag (provider, grade, patient).
        store: Where the tiles lie; None, or a store of features, makes a page without pictures.
        groups: Bag to what is drawn together in the bootstrap (patient); None draws each bag alone.
        subgroup_columns: Columns of `bags` to part results by; None takes provider, grade and group where they are there.
        slide_picture: From bag to a small picture of its slide; None puts the tiles together where they lie.
        num_pictures: Cases with pictures, the most wrong of the test split first.
        num_resamples: Of every interval.
        title: Heading; None is the name of the folder.

    Returns:
        The path of the page.

    Raises:
        FileNotFoundError: If the folder has no predictions.
        ValueError: If predictions, bags and store do not belong together.
    """
    run, target = read_run(run_dir), target_named(task)
    known = None if bags is None else _known_bags(run, bags)
    of_bags = None if groups is None else groups_of(run.predictions.bag_ids, groups)
    outcomes = {split: run.outcomes(split, task, threshold, of_bags) for split in run.splits}
    reported = run.splits[0]
    pictures, extremes = _draw(run, store, target, outcomes, num_pictures, slide_picture)
    everything = make_outcomes(run.predictions.labels, run.predictions.probabilities, task, threshold)
    cases = case_table(run.predictions, everything, target, defer_below, known, pictures)
    content, plots = _results(run, target, outcomes, reported, threshold, temperature, num_resamples)
    page = render(
        "report.html.j2",
        plots,
        ("plots.js", "cases.js"),
        title=title or run_dir.resolve().name,
        cases=cases | {"folder": PICTURES, "reported": reported},
        num_pictured=len(pictures),
        extremes=extremes,
        attention=_attention(run, reported, store),
        subgroups=_subgroups(run, reported, target, outcomes, known, subgroup_columns, num_resamples),
        grades=[]
        if target.has_threshold
        else grade_rows(outcomes[reported], None if known is None else known.iloc[run.rows(reported)]),
        defer_below=defer_below,
        grouped=groups is not None,
        **content,
    )
    write_text(run_dir / "report.html", page)
    return run_dir / "report.html"


def _known_bags(run: RunFolder, bags: pd.DataFrame) -> pd.DataFrame:
    """Return what is known of each predicted bag, row by row."""
    if "bag_id" not in bags:
        raise ValueError(f"a table of bags needs the column bag_id; it has {', '.join(map(str, bags.columns))}")
    table = bags.assign(bag_id=bags["bag_id"].astype(str)).drop_duplicates("bag_id").set_index("bag_id")
    missing = sorted(set(run.predictions.bag_ids) - set(table.index))
    if missing:
        raise ValueError(
            f"{len(missing)} bags of predictions.csv are not in the table of bags (first: {missing[0]!r}); "
            "give the table the run was made from"
        )
    return table.reindex(list(run.predictions.bag_ids)).reset_index()


def _results(
    run: RunFolder,
    target: Target,
    outcomes: dict[str, Outcomes],
    reported: str,
    threshold: float,
    temperature: float,
    num_resamples: int,
) -> tuple[dict[str, Any], list[Plot]]:
    """Return the numbers of the page and its plots."""
    main = outcomes[reported]
    names = run.predictions.class_names
    evaluated = {split: each for split, each in outcomes.items() if split != "train"} or outcomes
    validation = outcomes.get("val") if reported != "val" else None
    reader = second_reader(main, validation, target, threshold)
    calibrations = {"as predicted": main}
    if temperature != 1:
        # The probabilities of the run are calibrated already: what they were before is what to compare with.
        before = target.at_temperature(main.probabilities, 1 / temperature)
        calibrations = {"temperature 1": replace(main, probabilities=before), f"temperature {temperature:.2f}": main}
    elif reader.calibrated is not None:
        calibrations[f"temperature {reader.temperature:.2f}"] = reader.calibrated
    plots = [
        roc_plot(evaluated, names),
        precision_recall_plot(evaluated, names),
        histogram_plot(main, names, threshold),
        confusion_plot(main, names),
        calibration_plot(calibrations),
        risk_coverage_plot(evaluated),
    ]
    training = training_plots(run.history) if run.history is not None else []
    rows = metric_rows(outcomes, target, num_resamples)
    main_intervals = {row.name: row.intervals[reported] for row in rows}
    content = {
        "run": run,
        "reported": reported,
        "split_names": SPLIT_NAMES,
        "metric_names": NAMES,
        "outcomes": outcomes,
        "class_names": names,
        "threshold": threshold,
        "target": target,
        "metrics": rows,
        "headlines": [row for row in rows if row.name in target.headline],
        "sentence": in_words(main, target, reported, names, main_intervals),
        "reader": reader,
        "num_resamples": num_resamples,
        "training": training,
    }
    return content, plots + training


def _draw(
    run: RunFolder,
    store: BagStore | None,
    target: Target,
    outcomes: dict[str, Outcomes],
    num_pictures: int,
    slide_picture: Callable[[str], SlidePicture | None] | None,
) -> tuple[dict[str, CasePictures], str | None]:
    """Draw the most wrong cases, split by split, and the tiles with the most and least attention as a data URI."""
    if store is None or len(store.tile_shape) != 3 or num_pictures < 1:
        return {}, None
    order: list[int] = []
    for split, each in outcomes.items():
        order += run.rows(split)[np.argsort(-target.wrongness(each), kind="stable")].tolist()
    drawn = draw_cases(run.predictions, order[:num_pictures], store, run.path / PICTURES, slide_picture)
    main = next(iter(outcomes.values()))
    found = run.rows(next(iter(outcomes)))[main.correct & (main.labels > 0)]
    attention = {run.predictions.bag_ids[row]: run.predictions.attention[row] for row in found}
    picture = draw_run_extremes(attention, store)
    if picture is None:
        return drawn, None
    file = io.BytesIO()
    picture.save(file, "JPEG", quality=85)
    return drawn, "data:image/jpeg;base64," + base64.b64encode(file.getvalue()).decode("ascii")


def _attention(run: RunFolder, reported: str, store: BagStore | None) -> dict[str, Any]:
    """Return how attention spreads and, where tile labels are known, whether it lies on the tiles that matter."""
    rows = run.rows(reported).tolist()
    attention = [run.predictions.attention[row] for row in rows]
    quality: AttentionQuality | None = None
    if store is not None and store.tile_labels is not None:
        index_of = {bag_id: index for index, bag_id in enumerate(store.bags["bag_id"])}
        labels = [store.tile_labels[store.tile_slice(index_of[run.predictions.bag_ids[row]])] for row in rows]
        quality = attention_quality(attention, labels)
    entropies = [attention_entropy(weights) for weights in attention]
    return {"quality": quality, "entropy": float(np.mean(entropies)), "low": min(entropies), "high": max(entropies)}


def _subgroups(
    run: RunFolder,
    reported: str,
    target: Target,
    outcomes: dict[str, Outcomes],
    known: pd.DataFrame | None,
    columns: Sequence[str] | None,
    num_resamples: int,
) -> list[Any]:
    """Return results by what is known of the bags."""
    if known is None:
        return []
    return list(
        subgroup_tables(
            outcomes[reported], known.iloc[run.rows(reported)], target.subgroup_metrics, columns, num_resamples
        )
    )
