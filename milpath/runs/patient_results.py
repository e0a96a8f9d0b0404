"""Results by patient of a network whose bags are slides: predictions, bags and tiles of patients instead of slides."""

from collections.abc import Sequence
from dataclasses import replace
from typing import NamedTuple

import numpy as np
import pandas as pd

from milpath.data.datamodule import BagDataModule
from milpath.data.splits.patient_bags import grouped_table
from milpath.data.store.bag_store import BagStore
from milpath.data.store.grouped_store import GroupedStore
from milpath.records.label_table import require_column
from milpath.records.prediction_table import Predictions
from milpath.targets import NumericTarget, Several, Target
from milpath.targets.aggregation import aggregated_answers, aggregated_by_fold, mean_of_known
from milpath.targets.decision import deferred_cells


class PatientResults(NamedTuple):
    """Predictions of patients and what a report shows of them.

    Attributes:
        predictions: One row per patient, without logits. The attention of a tile is that on its slide times the share of the
            slide in the prediction of the patient.
        bags: One row per patient, with the columns of its slides.
        store: The tiles by patient.
    """

    predictions: Predictions
    bags: pd.DataFrame
    store: BagStore


def results_by_patient(
    predictions: Predictions,
    datamodule: BagDataModule,
    target: Target,
    aggregate: str,
    temperatures: Sequence[float] = (),
) -> PatientResults:
    """Return the results of patients from predictions of their slides.

    Args:
        predictions: Predictions of slides: probabilities at temperature 1, or predicted numbers.
        datamodule: The data, after `setup`.
        target: Their target.
        aggregate: "mean" or "max" (see `aggregated_answers`).
        temperatures: Temperature of each fold of an average of classes, whose probabilities are put together without it.

    Raises:
        ValueError: If the patient of a slide is unknown, or slides of a patient differ in label or split.
    """
    if datamodule.store.grouped:
        raise ValueError(
            f"aggregate={aggregate} is for slides as bags, but these bags are patients; set aggregate=null"
        )
    rows = {bag_id: row for row, bag_id in enumerate(predictions.bag_ids)}
    frame = datamodule.label_frame
    frame = frame[frame["bag_id"].isin(set(rows))].reset_index(drop=True)
    bags, members = _of_patients(frame, datamodule, aggregate)
    positions, slides = frame["index"].to_numpy(), [rows[bag_id] for bag_id in frame["bag_id"]]
    codes = np.empty(len(frame), np.int64)
    for number, own in enumerate(members):
        codes[own] = number
    found = aggregated_answers(target, predictions.probabilities[slides], codes, aggregate)

    def of_tiles(values: list[np.ndarray]) -> list[np.ndarray]:
        return [np.concatenate([values[slides[slide]] * found.weights[slide] for slide in own]) for own in members]

    by_patient = replace(
        predictions,
        bag_ids=bags["bag_id"].tolist(),
        splits=bags["split"].tolist(),
        labels=predictions.labels[[slides[own[0]] for own in members]],
        probabilities=found.answers.astype(predictions.probabilities.dtype),
        attention=of_tiles(list(predictions.attention)),
        predicted=None,
        logits=None,
        maps={name: of_tiles(list(values)) for name, values in predictions.maps.items()},
        each=None
        if predictions.each is None
        else aggregated_by_fold(target, predictions.each[slides], codes, aggregate, temperatures),
        agreement=None if predictions.agreement is None else mean_of_known(predictions.agreement[slides], codes),
        unfamiliarity=None
        if predictions.unfamiliarity is None
        # A patient is as unfamiliar as the most unfamiliar slide.
        else np.stack([predictions.unfamiliarity[[slides[slide] for slide in own]].max(axis=0) for own in members]),
    )
    if isinstance(target, NumericTarget) and target.call_columns:
        calls = [
            deferred_cells(target.call_columns, target.calls(row), bool(strange))
            for row, strange in zip(found.answers, by_patient.unfamiliar, strict=True)
        ]
        by_patient = replace(by_patient, calls=calls)
    stored = bags.drop(columns=["label", "split"])
    store = GroupedStore(datamodule.tile_store, stored, [positions[own] for own in members])
    return PatientResults(_in_order(by_patient, predictions.splits), bags, store)


def require_patients(datamodule: BagDataModule) -> None:
    """Refuse slides whose results could not be put together by patient, before a training rather than after it.

    Args:
        datamodule: The data, after `setup`.

    Raises:
        ValueError: If results are by patient, and the patient of a slide is unknown or slides of a patient differ in label
            or split.
    """
    if datamodule.aggregate and not datamodule.store.grouped:
        _of_patients(datamodule.label_frame, datamodule, datamodule.aggregate, say=False)


def fitted_by_patient(
    target: NumericTarget, patients: Predictions, sensitivity: float | None, defer_share: float
) -> NumericTarget:
    """Return a target with what results by patient take from patients, not from their slides.

    These are the weights against censoring and the cut between groups of risk, of the training split, and thresholds and
    deferral of several targets, of the validation split.

    Args:
        target: The target, fitted on the predictions of slides.
        patients: Predictions of patients by that target.
        sensitivity: As in `NumericTarget.decided_on`.
        defer_share: As there.
    """
    splits, answers = np.array(patients.splits), patients.probabilities.astype(np.float64)
    if (train := splits == "train").any():
        target = target.in_cohort(patients.labels[train], answers[train])
    if isinstance(target, Several) and target.decides:
        val = splits == "val"
        target = target.decided_by_patient(patients.labels[val], answers[val], sensitivity, defer_share)
    return target


def _of_patients(
    frame: pd.DataFrame, datamodule: BagDataModule, aggregate: str, *, say: bool = True
) -> tuple[pd.DataFrame, list[np.ndarray]]:
    """Return one row per patient, and the rows of the slides of each in a table of slides."""
    column = require_column(frame.columns, datamodule.patient_column, f"aggregate={aggregate}", "data.patient_column")
    alike = {
        "label": "a patient has one label: correct the table, or leave aggregate out",
        "split": f"data.group_column={column} keeps the slides of a patient together",
    }
    return grouped_table(frame.drop(columns="index"), column, alike, say=say)


def _in_order(predictions: Predictions, splits: Sequence[str]) -> Predictions:
    """Return predictions in the order of the splits."""
    first = list(dict.fromkeys(splits))
    order = sorted(range(len(predictions)), key=lambda row: first.index(predictions.splits[row]))
    return replace(
        predictions,
        bag_ids=[predictions.bag_ids[row] for row in order],
        splits=[predictions.splits[row] for row in order],
        labels=predictions.labels[order],
        probabilities=predictions.probabilities[order],
        attention=[predictions.attention[row] for row in order],
        maps={name: [values[row] for row in order] for name, values in predictions.maps.items()},
        each=None if predictions.each is None else predictions.each[order],
        agreement=None if predictions.agreement is None else predictions.agreement[order],
        calls=[predictions.calls[row] for row in order] if predictions.call_columns else (),
        unfamiliarity=None if predictions.unfamiliarity is None else predictions.unfamiliarity[order],
    )
