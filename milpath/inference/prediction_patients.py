"""Predictions of patients from those of their slides, for a network that was trained on slides."""

import csv
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd

from milpath.data.splits.patient_bags import names_of
from milpath.data.store.bag_store import BagStore
from milpath.inference.ensemble.fold_columns import AGREEMENT, EACH, each_of_cells, fold_cells, fold_columns
from milpath.inference.prediction_files import PREDICTIONS
from milpath.models.checkpoint import Card
from milpath.records.atomic_files import atomic_path
from milpath.records.data_warning import UNFAMILIAR_COLUMNS, unfamiliar_cells, warning_in_words
from milpath.records.label_table import require_column
from milpath.records.prediction_table import number_cells
from milpath.targets import NumericTarget, class_target_named, target_of
from milpath.targets.aggregation import aggregated_answers, aggregated_by_fold, mean_of_known
from milpath.targets.decision import Decision, decide, deferred_cells
from milpath.targets.shown_sets import set_columns, set_rows

PATIENTS = "patients.csv"


def write_patients(
    output: Path,
    store: BagStore,
    card: Card,
    aggregate: str,
    patient_column: str = "patient_id",
    temperatures: Sequence[float] = (),
) -> Path:
    """Write `patients.csv`: the columns of `predictions.csv` by patient, and the number of slides of each.

    Probabilities of slides are combined at temperature 1; temperature, threshold and deferral are those of the card, and so
    are prediction sets if they were fitted on patients that were put together in the same way. A patient is as unfamiliar as
    the most unfamiliar slide.

    Args:
        output: Folder of a complete prediction of slides.
        store: The slides, with the column of their patient.
        card: The card of the network.
        aggregate: "mean" or "max".
        patient_column: Column of the patient.
        temperatures: Temperature of each fold of an average; empty for one network.
    """
    table = pd.read_csv(output / PREDICTIONS, dtype={"id": str}, keep_default_na=False, na_values=[""])
    column = require_column(store.bags.columns, patient_column, f"aggregate={aggregate}")
    of_slide = dict(zip(store.bags["bag_id"], names_of(store.bags, column), strict=True))
    names, codes = np.unique([of_slide[name] for name in table["id"]], return_inverse=True)
    target, warning = target_of(card), warning_in_words(card.warning)
    strange = most_unfamiliar(table, codes, len(names))
    columns = [f"probability_{name}" for name in card.class_names]
    if isinstance(target, NumericTarget):
        columns = list(target.answer_columns)
        answers = aggregated_answers(target, table[columns].to_numpy(np.float64), codes, aggregate).answers
        referred = np.zeros(len(names), bool) if strange is None else strange[:, 0] == 1
        more: list[list[Any]] = [
            list(deferred_cells(target.call_columns, target.calls(row), bool(each)))
            for row, each in zip(answers, referred, strict=True)
        ]
        header = [*columns, *target.call_columns]
    else:
        probabilities = table[columns].to_numpy(np.float64)
        if card.temperature != 1:
            probabilities = class_target_named(card.task).at_temperature(probabilities, 1 / card.temperature)
        found = aggregated_answers(target, probabilities, codes, aggregate).answers
        if card.temperature != 1:
            found = class_target_named(card.task).at_temperature(found, card.temperature)
        calls = decide(found, card.task, Decision.of_card(card), False if strange is None else strange[:, 0] == 1)
        answers = calls.probabilities
        threshold = f"{card.threshold:.9g}" if target.has_threshold else ""
        more = [
            [card.class_names[number], threshold, int(deferred)]
            for number, deferred in zip(calls.predicted, calls.deferred, strict=True)
        ]
        header = [*columns, "predicted", "threshold", "defer"]
    each = agreement = None
    if EACH in table:
        each = aggregated_by_fold(target, each_of_cells(table[EACH].tolist()), codes, aggregate, temperatures)
        agreement = mean_of_known(table[AGREEMENT].to_numpy(np.float64), codes)
    sets = set_rows(card, answers, aggregate, each)
    header = [*header, *set_columns(card, aggregate)]
    if each is not None and agreement is not None:
        header += fold_columns(card)
        for row, cells in enumerate(sets):
            called = target.calls(answers[row])[::2] if isinstance(target, NumericTarget) else [str(more[row][0])]
            cells += fold_cells(card, each[row], float(agreement[row]), called)
    if strange is not None:
        header += UNFAMILIAR_COLUMNS
        for cells, values in zip(sets, strange, strict=True):
            cells += unfamiliar_cells(values)
    last = [[*cells, *further] for cells, further in zip(more, sets, strict=True)]
    with atomic_path(output / PATIENTS) as temporary, temporary.open("w", newline="", encoding="utf-8") as file:
        writer = csv.writer(file, lineterminator="\n")
        writer.writerow(["id", "num_slides", *header, *(["warning"] if warning else [])])
        for name, count, row, cells in zip(names, np.bincount(codes), answers, last, strict=True):
            writer.writerow([name, int(count), *number_cells(row), *cells, *([warning] if warning else [])])
    return output / PATIENTS


def most_unfamiliar(table: pd.DataFrame, codes: np.ndarray, num_patients: int) -> np.ndarray | None:
    """Return the columns of unfamiliarity of patients, `(patients, 3)`: those of their most unfamiliar slide.

    Args:
        table: Predictions of slides.
        codes: `(slides,)` patient of each.
        num_patients: Number of patients.

    Returns:
        `None` for predictions without a model of familiar slides.
    """
    if not set(UNFAMILIAR_COLUMNS) <= set(table.columns):
        return None
    slides = table[list(UNFAMILIAR_COLUMNS)].to_numpy(np.float64)
    return np.stack([slides[codes == code].max(axis=0) for code in range(num_patients)])
