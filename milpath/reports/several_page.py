"""The report of a run with several targets: a section for each, on the bags that have its label."""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from milpath.data.store.bag_store import BagStore
from milpath.inference.pictures.overlays import SlidePicture
from milpath.metrics.cohort_shift import CohortShift
from milpath.metrics.evaluated_bags import EvaluatedBags
from milpath.metrics.evaluated_several import MACRO, EvaluatedSeveral
from milpath.metrics.subgroups import subgroup_tables
from milpath.models.familiarity import Familiarity
from milpath.records.atomic_files import write_text
from milpath.records.prediction_table import Predictions
from milpath.reports.faithfulness import faithfulness_plots
from milpath.reports.familiarity_results import familiarity_results
from milpath.reports.headline import MetricRow, few_in_words, in_words, metric_rows, metric_title
from milpath.reports.numbers_page import MAX_CASES, WITHOUT_BAR, numeric_cases, risk_rows, target_plots, worst_first
from milpath.reports.pictures import PICTURES, CasePictures, draw_cases, has_pictures, without_pictures
from milpath.reports.plots.figures import (
    SPLIT_NAMES,
    calibration_plot,
    confusion_plot,
    histogram_plot,
    precision_recall_plot,
    roc_plot,
    training_plots,
)
from milpath.reports.plots.plot_style import Plot
from milpath.reports.rendering import render
from milpath.reports.run_folder import RunFolder, groups_of
from milpath.reports.run_parts import attention_of
from milpath.reports.set_results import set_results
from milpath.targets import NumericTarget, Several
from milpath.targets.set_parts import SetPart
from milpath.targets.several.member import Member


def write_several_report(
    run: RunFolder,
    target: Several,
    *,
    bags: pd.DataFrame | None,
    store: BagStore | None,
    groups: Mapping[str, str] | None,
    subgroup_columns: Sequence[str] | None,
    slide_picture: Callable[[str], SlidePicture | None] | None,
    slides: Mapping[str, Path],
    num_pictures: int,
    num_resamples: int,
    title: str | None,
    warning: str,
    sets: Sequence[SetPart] = (),
    each: NDArray[np.float64] | None = None,
    agreement: NDArray[np.float64] | None = None,
    shift: Sequence[CohortShift] = (),
    familiarity: Familiarity | None = None,
) -> Path:
    """Write `report.html` of a run with several targets; arguments as in `write_numbers_report`."""
    of_bags = None if groups is None else groups_of(run.predictions.bag_ids, groups)
    outcomes: dict[str, EvaluatedSeveral] = {split: run.outcomes(split, target, groups=of_bags) for split in run.splits}
    reported = run.splits[0]
    order = worst_first(run, target, outcomes)
    pictures: dict[str, CasePictures] = {}
    if store is not None and has_pictures(store, slides) and num_pictures > 0:
        pictures = draw_cases(
            run.predictions, order[:num_pictures], store, run.path / PICTURES, slide_picture, slides, warning
        )
    rows = metric_rows(outcomes, target, num_resamples)
    known = None if bags is None else bags.iloc[run.rows(reported)]
    sections = [
        _section(number, member, outcomes, reported, rows, known, subgroup_columns, num_resamples)
        for number, member in enumerate(target.members)
    ]
    for section, member in zip(sections, target.members, strict=True):
        section["sets"] = set_results(run, sets, of_bags, each, member.name)
    training = training_plots(run.history) if run.history is not None else []
    strange, drawn = familiarity_results(run, familiarity, of_bags)
    page = render(
        "several.html.j2",
        [plot for section in sections for plot in section["plots"]]
        + training
        + drawn
        + faithfulness_plots(run.faithfulness),
        ("plots.js", "search.js", "case_rows.js"),
        title=title or run.path.resolve().name,
        warning=warning,
        run=run,
        target=target,
        reported=reported,
        outcomes=outcomes,
        split_names=SPLIT_NAMES,
        sentence=in_words(outcomes[reported], target, reported, target.names, {}),
        over_all=[row for row in rows if row.name.startswith(MACRO)],
        sections=sections,
        num_resamples=num_resamples,
        few=few_in_words(outcomes[reported]),
        familiarity=strange,
        grouped=groups is not None,
        without_bar=WITHOUT_BAR,
        training=training,
        attention=attention_of(run, reported, store, agreement, of_bags),
        shift=shift,
        cases=numeric_cases(
            run,
            target,
            outcomes,
            order[:MAX_CASES],
            pictures,
            partial(_label_and_answer, target, run.predictions),
            store,
        ),
        pictures_folder=PICTURES,
        without_pictures=without_pictures(store, slides),
    )
    write_text(run.path / "report.html", page)
    return run.path / "report.html"


def _section(
    number: int,
    member: Member,
    outcomes: Mapping[str, EvaluatedSeveral],
    reported: str,
    rows: Sequence[MetricRow],
    known: pd.DataFrame | None,
    subgroup_columns: Sequence[str] | None,
    num_resamples: int,
) -> dict[str, Any]:
    """Return the section of one target."""
    own = {split: each.of(member.name) for split, each in outcomes.items()}
    prefix = f"{member.name}/"
    shown = [
        replace(row, name=name, title=metric_title(name))
        for row in rows
        if row.name.startswith(prefix) and (name := row.name.removeprefix(prefix))
    ]
    main, sentence, plots, subgroups = own[reported], "", [], []
    if main.num_bags:
        where = f"Of {main.num_bags:,} {SPLIT_NAMES.get(reported, reported)} bags with a label"
        sentence = member.target.sentence(
            main, where, member.class_names, {row.name: row.intervals[reported] for row in shown}
        )
        drawn = member_plots({split: each for split, each in own.items() if each.num_bags}, reported, member)
        plots = [replace(plot, name=f"{number}-{plot.name}") for plot in drawn]
        if known is not None:
            rows_of_member = known.iloc[outcomes[reported].rows[member.name]]
            subgroups = subgroup_tables(
                main, rows_of_member, member.target.subgroup_metrics, subgroup_columns, num_resamples
            )
    return {
        "number": number,
        "name": member.name,
        "target": member.target,
        "decision": member.decision,
        "counts": {split: (each.num_bags, outcomes[split].num_bags) for split, each in own.items()},
        "metrics": shown,
        "headlines": [row for row in shown if row.name in member.target.headline],
        "sentence": sentence,
        "plots": plots,
        "risk_rows": risk_rows(main, member.target) if main.num_bags else [],
        "subgroups": [(table, [metric_title(name) for name in table.metrics]) for table in subgroups],
    }


def member_plots(own: Mapping[str, Any], reported: str, member: Member) -> list[Plot]:
    """Return the plots of one target, from its outcomes on each split that has its labels."""
    main = own[reported]
    if isinstance(member.target, NumericTarget):
        return target_plots(own, reported, member.target)
    if not isinstance(main, EvaluatedBags):
        return []
    evaluated = {split: each for split, each in own.items() if split != "train"} or dict(own)
    names = member.class_names
    return [
        roc_plot(evaluated, names),
        precision_recall_plot(evaluated, names),
        histogram_plot(main, names, member.decision.threshold),
        confusion_plot(main, names),
        calibration_plot({"as predicted": main}),
    ]


def _label_and_answer(target: Several, predictions: Predictions, row: int) -> dict[str, Any]:
    """Return label and prediction of each target in words."""
    return {"targets": target.in_words(predictions.labels[row], predictions.probabilities[row])}
