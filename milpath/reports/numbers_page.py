"""The report of a run whose target has no classes."""

from collections.abc import Callable, Mapping, Sequence
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from milpath.data.store.bag_store import BagStore
from milpath.inference.pictures.overlays import SlidePicture
from milpath.metrics.cohort_shift import CohortShift
from milpath.metrics.evaluated_numbers import EvaluatedNumbers
from milpath.metrics.survival.evaluated_times import EvaluatedTimes
from milpath.models.familiarity import Familiarity
from milpath.records.atomic_files import write_text
from milpath.records.prediction_table import Predictions
from milpath.reports.cases import case_anchor, num_slides_of
from milpath.reports.faithfulness import faithfulness_plots
from milpath.reports.familiarity_results import familiarity_results
from milpath.reports.headline import NAMES, few_in_words, in_words, metric_rows
from milpath.reports.pictures import PICTURES, CasePictures, draw_cases, has_pictures, without_pictures
from milpath.reports.plots.figures import SPLIT_NAMES, training_plots
from milpath.reports.plots.number_figures import number_plots
from milpath.reports.plots.plot_style import Plot
from milpath.reports.plots.survival_figures import risk_table, survival_plots
from milpath.reports.rendering import render
from milpath.reports.run_folder import RunFolder, groups_of
from milpath.reports.run_parts import attention_of, subgroups_of
from milpath.reports.set_results import set_results
from milpath.targets import NumericTarget, Survival, Target
from milpath.targets.set_parts import SetPart

# The page is static; predictions.csv has all bags.
MAX_CASES = 200
# The bar of a headline shows a number from 0 to 1.
WITHOUT_BAR = ("mae", "rmse", "calibration", "pinball", "width")


def write_numbers_report(
    run: RunFolder,
    target: NumericTarget,
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
    familiarity: Familiarity | None = None,
    shift: Sequence[CohortShift] = (),
) -> Path:
    """Write `report.html` of a run whose target has no classes.

    Args:
        run: The run.
        target: The target of its checkpoint.
        bags: The row of each predicted bag, in the order of the predictions; `None` without further columns.
        store: As in `write_report`.
        groups: As in `write_report`.
        subgroup_columns: As in `write_report`.
        slide_picture: As in `write_report`.
        slides: As in `write_report`.
        num_pictures: As in `write_report`.
        num_resamples: As in `write_report`.
        title: As in `write_report`.
        sets: As in `write_report`.
        each: As in `write_report`.
        agreement: As in `write_report`.
        shift: As in `write_report`.
        warning: As in `write_report`; empty for none.
        familiarity: As in `write_report`.

    Returns:
        The path of the report.
    """
    of_bags = None if groups is None else groups_of(run.predictions.bag_ids, groups)
    outcomes = {split: run.outcomes(split, target, groups=of_bags) for split in run.splits}
    reported = run.splits[0]
    order = worst_first(run, target, outcomes)
    pictures: dict[str, CasePictures] = {}
    if store is not None and has_pictures(store, slides) and num_pictures > 0:
        pictures = draw_cases(
            run.predictions, order[:num_pictures], store, run.path / PICTURES, slide_picture, slides, warning
        )
    rows = metric_rows(outcomes, target, num_resamples)
    plots = target_plots(outcomes, reported, target)
    training = training_plots(run.history, target.hidden_metrics) if run.history is not None else []
    strange, drawn = familiarity_results(run, familiarity, of_bags)
    page = render(
        "numbers.html.j2",
        plots + training + drawn + faithfulness_plots(run.faithfulness),
        ("plots.js", "search.js", "case_rows.js"),
        title=title or run.path.resolve().name,
        warning=warning,
        run=run,
        target=target,
        reported=reported,
        outcomes=outcomes,
        split_names=SPLIT_NAMES,
        metric_names=NAMES,
        metrics=rows,
        headlines=[row for row in rows if row.name in target.headline],
        # The bar of a headline shows a number from 0 to 1.
        without_bar=tuple(
            row.name for row in rows if row.name.startswith(("mae", "rmse", "calibration", "pinball", "width"))
        ),
        sentence=in_words(
            outcomes[reported], target, reported, target.names, {row.name: row.intervals[reported] for row in rows}
        ),
        num_resamples=num_resamples,
        few=few_in_words(outcomes[reported]),
        familiarity=strange,
        grouped=groups is not None,
        own_plots=plots,
        risk_rows=risk_rows(outcomes[reported], target),
        training=training,
        attention=attention_of(run, reported, store, agreement, of_bags),
        subgroups=subgroups_of(run, reported, target, outcomes, bags, subgroup_columns, num_resamples),
        cases=numeric_cases(
            run, target, outcomes, order[:MAX_CASES], pictures, partial(_label_and_answer, run.predictions), store
        ),
        pictures_folder=PICTURES,
        shift=shift,
        sets=set_results(run, sets, of_bags, each),
        without_pictures=without_pictures(store, slides),
    )
    write_text(run.path / "report.html", page)
    return run.path / "report.html"


def target_plots(outcomes: Mapping[str, Any], reported: str, target: NumericTarget) -> list[Plot]:
    """Return the plots of a target: by what its evaluated bags are, so that your own target may use them as well."""
    main = outcomes[reported]
    if isinstance(main, EvaluatedNumbers):
        return number_plots(main, target.units)
    if isinstance(main, EvaluatedTimes) and isinstance(target, Survival):
        return survival_plots(main, target.risk_cut, target.unit)
    return []


def risk_rows(outcomes: Any, target: Target) -> list[list[str]]:
    """Return the numbers at risk of a survival target; empty for others."""
    return risk_table(outcomes, target.risk_cut) if isinstance(target, Survival) else []


def worst_first(run: RunFolder, target: NumericTarget, outcomes: Mapping[str, Any]) -> list[int]:
    """Return the rows of the predictions, split by split with the largest errors first."""
    order: list[int] = []
    for split, each in outcomes.items():
        order += run.rows(split)[np.argsort(-target.wrongness(each), kind="stable")].tolist()
    return order


def numeric_cases(
    run: RunFolder,
    target: NumericTarget,
    outcomes: Mapping[str, Any],
    order: Sequence[int],
    pictures: Mapping[str, CasePictures],
    said: Callable[[int], dict[str, Any]],
    store: BagStore | None = None,
) -> list[dict[str, Any]]:
    """Return the cases as plain values, of patients with their slides; `said` gives label and prediction of a row."""
    num_slides = num_slides_of(store)
    wrongness = np.empty(len(run.predictions))
    for split, each in outcomes.items():
        wrongness[run.rows(split)] = target.wrongness(each)
    return [
        {
            "id": run.predictions.bag_ids[row],
            "anchor": case_anchor(run.predictions.bag_ids[row]),
            "split": SPLIT_NAMES.get(run.predictions.splits[row], run.predictions.splits[row]),
            "num_slides": num_slides.get(run.predictions.bag_ids[row]),
            **said(row),
            "wrongness": float(wrongness[row]),
            "pictures": pictures.get(run.predictions.bag_ids[row]),
        }
        for row in order
    ]


def _label_and_answer(predictions: Predictions, row: int) -> dict[str, list[str]]:
    """Return label and prediction of a row as texts."""
    answers = predictions.probabilities[row]
    return {
        "labels": [f"{value:.5g}" for value in predictions.labels[row]],
        "answers": ["not reached" if np.isnan(each) else f"{each:.4g}" for each in answers],
    }
