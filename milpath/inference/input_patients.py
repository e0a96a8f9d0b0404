"""The patients of the slides that are predicted, for a network whose bags are patients, or for an aggregation."""

import logging
import re
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from milpath.data.splits.label_matching import named_like_data
from milpath.data.splits.patient_bags import PatientOptions, bags_of_slides
from milpath.data.store.bag_store import BagStore
from milpath.records.label_table import find_column, quote_first
from milpath.records.patient_table import read_slides

_log = logging.getLogger(__name__)


def patients_of_input(
    store: BagStore,
    data: Mapping[str, Any],
    failures: Mapping[str, str],
    *,
    slides_table: str | None,
    patient_column: str | None = None,
    slide_column: str | None = None,
    aggregate: str | None = None,
) -> BagStore:
    """Return the bags to predict: patients for a network that was trained on patients, otherwise the slides.

    Args:
        store: A bag per slide.
        data: `data` of the network's card.
        failures: Slides that are not in the store because they could not be read; a patient is predicted from the others.
        slides_table: Table with one row per slide and its patient; `None` takes the patient from the table of the store.
        patient_column: Column of the patient; `None` takes that of the training.
        slide_column: Column of the slide; `None` takes `slide_id` or one of its other names.
        aggregate: How predictions of slides become those of patients; `None` if they do not.

    Raises:
        ValueError: If the patient of a slide is unknown, or the table names slides that are not there.
    """
    bag_column = data.get("bag_column")
    if not bag_column and not slides_table and not aggregate:
        return store
    require_patients(
        list(store.bags.columns), data, slides_table=slides_table, patient_column=patient_column,
        slide_column=slide_column, aggregate=aggregate,
    )  # fmt: skip
    column = column_of_patients(data, patient_column)
    options = PatientOptions(
        slides=slides_table, bag_column=column, patient_column=column, slide_column=slide_column,
        unread=frozenset(failures), way_out="give a table and slides that belong together",
    )  # fmt: skip
    with naming_own_options():
        bags = bags_of_slides(store, options)
    _say_incomplete(options, failures, bags)
    return bags if bag_column else bags.slide_store


def require_patients(
    columns: Sequence[str],
    data: Mapping[str, Any],
    *,
    slides_table: str | None,
    patient_column: str | None = None,
    slide_column: str | None = None,
    aggregate: str | None = None,
) -> None:
    """Refuse options of patients that do not fit the network, or a table that cannot be used.

    Args:
        columns: Columns that are known of each slide without `slides_table`.
        data: As in `patients_of_input`, like the others.
        slides_table: Table of the slides.
        patient_column: Column of the patient.
        slide_column: Column of the slide.
        aggregate: How predictions of slides become those of patients.

    Raises:
        FileNotFoundError: If there is no such table.
        ValueError: With what to give.
    """
    bag_column = data.get("bag_column")
    if not bag_column and not slides_table and not aggregate:
        if patient_column is not None:
            raise ValueError(
                f"patient_column={patient_column} names the patients of slides, but the checkpoint was trained on single "
                "slides; add aggregate=mean or aggregate=max, or leave patient_column out"
            )
        return
    column = column_of_patients(data, patient_column)
    if bag_column and aggregate:
        raise ValueError(
            f"the checkpoint predicts patients as a whole (data.bag_column={bag_column}); leave out aggregate={aggregate}"
        )
    if not slides_table and find_column(columns, column) is None:
        if aggregate:
            raise ValueError(
                f"aggregate={aggregate} needs the patient of each slide; give slides_table=CSV with slide_id, {column}"
            )
        raise ValueError(
            f"the checkpoint was trained on patients, each a bag of all its slides (data.bag_column={bag_column}); give "
            f"slides_table=CSV with slide_id and {column}, one row per slide"
        )
    if not bag_column and not aggregate:
        raise ValueError(
            f"slides_table={slides_table} says which slides are of one patient, but the checkpoint was trained on single "
            "slides; add aggregate=mean or aggregate=max, or leave the table out"
        )
    if slides_table:
        with naming_own_options():
            read_slides(slides_table, column, slide_column)


@contextmanager
def naming_own_options() -> Iterator[None]:
    """Name options as `predict` has them, not as those of the data of a training."""
    try:
        yield
    except ValueError as error:
        raise ValueError(re.sub(r"\bdata\.(?=(slide|patient)_column\b)", "", str(error))) from None


def column_of_patients(data: Mapping[str, Any], patient_column: str | None = None) -> str:
    """Return the column that names the patient of a slide: the given one, or that of the training."""
    return str(patient_column or data.get("bag_column") or data.get("patient_column") or "patient_id")


def _say_incomplete(options: PatientOptions, failures: Mapping[str, str], bags: BagStore) -> None:
    """Warn about patients who are predicted without a slide that could not be read."""
    if not failures or not options.slides:
        return
    rows = read_slides(options.slides, options.patient_column, options.slide_column)
    rows = named_like_data(rows, set(failures), Path(options.slides))
    of_failed = rows[options.patient_column][rows["bag_id"].isin(set(failures))]
    known = set(bags.bags["bag_id"])
    partly = sorted(set(of_failed) & known)
    if partly:
        _log.warning(
            "%d patients are predicted without slides that could not be read: %s", len(partly), quote_first(partly)
        )
    if lost := sorted(set(of_failed) - known):
        _log.warning("%d patients have no prediction, as no slide could be read: %s", len(lost), quote_first(lost))
