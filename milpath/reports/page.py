"""The report of a run: one self-contained HTML file and a folder of pictures."""

import base64
import io
from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from types import MappingProxyType
from typing import Any

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from milpath.data.store.bag_store import BagStore
from milpath.drawing.warning_strip import with_warning
from milpath.inference.pictures.overlays import SlidePicture
from milpath.inference.pictures.sharpest_bags import draw_run_extremes
from milpath.metrics.calibration import say_bound
from milpath.metrics.cohort_shift import CohortShift
from milpath.metrics.deferral import referral_table
from milpath.metrics.evaluated_bags import EvaluatedBags
from milpath.metrics.subgroups import grade_rows
from milpath.models.familiarity import Familiarity
from milpath.records.atomic_files import write_text
from milpath.records.data_warning import require_warning
from milpath.reports.cases import case_table, num_slides_of
from milpath.reports.faithfulness import faithfulness_plots
from milpath.reports.familiarity_results import familiarity_results
from milpath.reports.headline import NAMES, few_in_words, in_words, metric_rows
from milpath.reports.numbers_page import write_numbers_report
from milpath.reports.pictures import PICTURES, CasePictures, draw_cases, has_pictures, without_pictures
from milpath.reports.plots.figures import (
    SPLIT_NAMES,
    calibration_plot,
    confusion_plot,
    histogram_plot,
    precision_recall_plot,
    risk_coverage_plot,
    roc_plot,
    training_plots,
)
from milpath.reports.plots.plot_style import Plot
from milpath.reports.rendering import render
from milpath.reports.run_folder import RunFolder, groups_of, read_run
from milpath.reports.run_parts import attention_of, subgroups_of
from milpath.reports.second_reader import second_reader
from milpath.reports.set_results import class_flags, set_results
from milpath.reports.several_page import write_several_report
from milpath.targets import ClassTarget, NumericTarget, Several, Target, target_named
from milpath.targets.evaluation import evaluate_bags
from milpath.targets.set_parts import SetPart


def write_report(
    run_dir: Path,
    *,
    task: str | Target,
    threshold: float = 0.5,
    temperature: float = 1.0,
    defer_below: float = 0.0,
    sets: Sequence[SetPart] = (),
    each: NDArray[np.float64] | None = None,
    agreement: NDArray[np.float64] | None = None,
    shift: Sequence[CohortShift] = (),
    bags: pd.DataFrame | None = None,
    store: BagStore | None = None,
    groups: Mapping[str, str] | None = None,
    subgroup_columns: Sequence[str] | None = None,
    slide_picture: Callable[[str], SlidePicture | None] | None = None,
    slides: Mapping[str, Path] = MappingProxyType({}),
    num_pictures: int = 100,
    num_resamples: int = 1000,
    title: str | None = None,
    warning: str | None = None,
    familiarity: Familiarity | None = None,
) -> Path:
    """Write `report.html` into a run folder, and the pictures of the cases with the largest errors into `report_files`.

    Args:
        run_dir: Folder with `predictions.csv` and, optionally, the other files of a run.
        task: The target or its name; one without classes must be that of the run's checkpoint.
        threshold: Operating point the run used (binary).
        temperature: Temperature of the run; the report shows calibration with and without it.
        defer_below: Confidence below which a bag is deferred to a pathologist.
        sets: The targets of the run with their prediction sets, fitted on validation; empty without.
        each: `(bags, folds, columns)` predictions of the folds of an average, in the order of `predictions.csv`; None of one
            network.
        agreement: `(bags,)`, how far the folds agree on attention; None of one network.
        shift: How the bags differ from those that several folds were calibrated on; empty for one network.
        bags: Table with `bag_id` and further columns (provider, grade, patient).
        store: The tiles, or their features; with None, or features of slides that are not at hand, there are no pictures.
        groups: Bag to the group (patient) it is resampled with in the bootstrap; None resamples bags independently.
        subgroup_columns: Columns of `bags` for subgroup results; None uses provider, grade and group if present.
        slide_picture: Function from bag to a small picture of its slide; None takes it from `slides`, or assembles the
            tiles at their positions.
        slides: Bag to the file of its slide, from which thumbnails and, for features, tiles are read.
        num_pictures: Number of cases with pictures, those with the largest errors of the test split first.
        num_resamples: Bootstrap resamples of each interval.
        title: Heading; None for the name of the folder.
        warning: What the data of the run say against themselves, on top of the page and below its pictures; None for what
            the run recorded.
        familiarity: The models of familiar slides that judged the predictions; None without.

    Returns:
        The path of the report.

    Raises:
        FileNotFoundError: If the folder has no predictions.
        ValueError: If predictions, bags and store do not match.
    """
    run, target = read_run(run_dir), target_named(task)
    if agreement is not None:  # predictions.csv is read without it
        run = replace(run, predictions=replace(run.predictions, agreement=agreement))
    warning = run.warning if warning is None else require_warning(warning, "warning")
    if isinstance(target, NumericTarget):
        write: Any = write_several_report if isinstance(target, Several) else write_numbers_report
        path: Path = write(
            run, target, bags=None if bags is None else _known_bags(run, bags), store=store, groups=groups,
            subgroup_columns=subgroup_columns, slide_picture=slide_picture, slides=slides, num_pictures=num_pictures,
            num_resamples=num_resamples, title=title, warning=warning, sets=sets, each=each, agreement=agreement,
            shift=shift, familiarity=familiarity,
        )  # fmt: skip
        return path
    assert isinstance(target, ClassTarget)
    known = None if bags is None else _known_bags(run, bags)
    of_bags = None if groups is None else groups_of(run.predictions.bag_ids, groups)
    outcomes = {split: run.outcomes(split, task, threshold, of_bags) for split in run.splits}
    reported = run.splits[0]
    pictures, extremes = _draw(run, store, target, outcomes, num_pictures, slide_picture, slides, warning)
    everything = evaluate_bags(run.predictions.labels, run.predictions.probabilities, target.name, threshold)
    cases = case_table(run.predictions, everything, target, defer_below, known, pictures, num_slides_of(store))
    content, plots = _results(
        run, target, outcomes, reported, threshold, temperature, num_resamples, class_flags(run, sets, reported, each)
    )
    strange, drawn = familiarity_results(run, familiarity, of_bags)
    page = render(
        "report.html.j2",
        plots + drawn + faithfulness_plots(run.faithfulness),
        ("plots.js", "search.js", "cases.js"),
        title=title or run_dir.resolve().name,
        warning=warning,
        cases=cases | {"folder": PICTURES, "reported": reported},
        num_pictured=len(pictures),
        without_pictures=without_pictures(store, slides),
        extremes=extremes,
        attention=attention_of(run, reported, store, agreement, of_bags),
        subgroups=subgroups_of(run, reported, target, outcomes, known, subgroup_columns, num_resamples),
        grades=[]
        if target.has_threshold
        else grade_rows(outcomes[reported], None if known is None else known.iloc[run.rows(reported)]),
        defer_below=defer_below,
        shift=shift,
        familiarity=strange,
        referrals=referral_table(outcomes[reported], defer_below, run.predictions.unfamiliar[run.rows(reported)])
        if strange
        else [],
        sets=set_results(run, sets, of_bags, each),
        grouped=groups is not None,
        **content,
    )
    write_text(run_dir / "report.html", page)
    return run_dir / "report.html"


def _known_bags(run: RunFolder, bags: pd.DataFrame) -> pd.DataFrame:
    """Return the row of each predicted bag, in the order of the predictions."""
    if "bag_id" not in bags:
        raise ValueError(f"the table of bags needs a column bag_id; it has {', '.join(map(str, bags.columns))}")
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
    target: ClassTarget,
    outcomes: dict[str, EvaluatedBags],
    reported: str,
    threshold: float,
    temperature: float,
    num_resamples: int,
    sets: NDArray[np.bool_] | None,
) -> tuple[dict[str, Any], list[Plot]]:
    """Return the numbers of the report and its plots."""
    main = outcomes[reported]
    names = run.predictions.class_names
    evaluated = {split: each for split, each in outcomes.items() if split != "train"} or outcomes
    validation = outcomes.get("val") if reported != "val" else None
    reader = second_reader(main, validation, target, threshold, sets=sets)
    calibrations = {"as predicted": main}
    if temperature != 1:
        # The probabilities of the run are already calibrated; compare with those before calibration.
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
    training = training_plots(run.history, target.hidden_metrics) if run.history is not None else []
    rows = metric_rows(outcomes, target, num_resamples)
    main_intervals = {row.name: row.intervals[reported] for row in rows}
    content = {
        "run": run,
        "reported": reported,
        "without_bar": (),
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
        "bounds": list(dict.fromkeys(filter(None, (say_bound(temperature), reader.bound)))),
        "num_resamples": num_resamples,
        "few": few_in_words(main),
        "training": training,
    }
    return content, plots + training


def _draw(
    run: RunFolder,
    store: BagStore | None,
    target: Target,
    outcomes: dict[str, EvaluatedBags],
    num_pictures: int,
    slide_picture: Callable[[str], SlidePicture | None] | None,
    slides: Mapping[str, Path],
    warning: str,
) -> tuple[dict[str, CasePictures], str | None]:
    """Draw the cases with the largest errors, and the tiles with the highest and lowest attention as a data URI."""
    if store is None or not has_pictures(store, slides) or num_pictures < 1:
        return {}, None
    order: list[int] = []
    for split, each in outcomes.items():
        order += run.rows(split)[np.argsort(-target.wrongness(each), kind="stable")].tolist()
    drawn = draw_cases(
        run.predictions, order[:num_pictures], store, run.path / PICTURES, slide_picture, slides, warning
    )
    main = next(iter(outcomes.values()))
    found = run.rows(next(iter(outcomes)))[main.correct & (main.labels > 0)]
    attention = {run.predictions.bag_ids[row]: run.predictions.attention[row] for row in found}
    picture = draw_run_extremes(attention, store, slides=slides)
    if picture is None:
        return drawn, None
    file = io.BytesIO()
    with_warning(picture, warning).save(file, "JPEG", quality=85)
    return drawn, "data:image/jpeg;base64," + base64.b64encode(file.getvalue()).decode("ascii")
