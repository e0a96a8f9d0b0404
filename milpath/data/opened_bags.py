"""The bags of a data module: the store of its source, with the tables of the study, by slide or by patient."""

from collections.abc import Sequence
from functools import partial
from typing import Any

import pandas as pd

from milpath.data.sources.bag_source import BagSource, FileSource, LabelledSource
from milpath.data.splits.bag_lists import excluded_bags
from milpath.data.splits.bag_table import SplitOptions
from milpath.data.splits.label_check import require_labels_of
from milpath.data.splits.patient_bags import PatientOptions, bags_of_slides, grouped_table, names_of, without
from milpath.data.store.bag_store import BagStore
from milpath.data.store.store_build import open_or_build, open_or_build_labelled
from milpath.records.label_table import find_column
from milpath.targets.columns.label_columns import columns_read, default_column


def open_bags(
    source: BagSource,
    stores_dir: str,
    options: SplitOptions,
    patients: PatientOptions,
    labels: dict[str, Any],
    *,
    verify: bool = True,
) -> tuple[BagStore, set[str] | None]:
    """Return the bags of a source; its store is built first if it does not exist.

    Args:
        source: Source of the slides.
        stores_dir: Folder of the stores.
        options: How bags are split: excluded bags are left out, and the files of excluded slides not opened.
        patients: Tables of the study, and whether its patients are the bags.
        labels: Arguments of `require_labels_of` about labels.
        verify: As in `BagStore.open`.

    Returns:
        The bags, and the excluded ones if they are not among them (`None` if they are).
    """
    patients.require_tables()
    check = partial(_require_labels, options=options, patients=patients, labels=labels, source=source)
    alike = label_columns(options, labels)
    if not isinstance(source, FileSource):

        def check_source() -> None:
            if isinstance(source, LabelledSource):
                check(source.label_table(), and_split=True)

        store, left_out = open_or_build(source, stores_dir, check_source, verify=verify), None
        if options.exclude and patients.bag_column:
            left_out = _excluded(options, patients, patients.joined(store.bags, store.path, say=False))
    else:
        names = sorted(source.bag_names()) if options.exclude else []
        if options.exclude and patients.bag_column:
            left_out = _excluded(options, patients, patients.joined(source.label_table(), "the data", say=False))
        else:
            left_out = excluded_bags(options.exclude, names) if options.exclude else set()
        store = open_or_build_labelled(source, stores_dir, left_out, partial(check, left_out=left_out), verify=verify)
    bags = bags_of_slides(store, patients, alike, left_out or ())
    if bags.grouped and left_out is not None:
        left_out = left_out - set(store.bags["bag_id"])
    return bags, left_out


def label_columns(options: SplitOptions, labels: dict[str, Any]) -> list[str]:
    """Return the columns in which slides of one bag must not differ: label, split and group."""
    wanted = columns_read(labels["numbers"], options.label_column, default_column(labels["target"]))
    return [*wanted, *filter(None, (options.split_column, options.group_column))]


def _excluded(options: SplitOptions, patients: PatientOptions, table: pd.DataFrame) -> set[str]:
    """Return the slides and patients in exclusion lists."""
    assert patients.bag_column is not None
    column = find_column(table.columns, patients.bag_column)
    bags = [] if column is None else names_of(table, column)
    return excluded_bags(options.exclude, sorted({*table["bag_id"], *bags}))


def _require_labels(
    table: pd.DataFrame,
    *,
    and_split: bool,
    options: SplitOptions,
    patients: PatientOptions,
    labels: dict[str, Any],
    source: BagSource,
    left_out: Sequence[str] | None = None,
) -> None:
    """Refuse a table of slides whose bags `label_and_split` would refuse, before a store is built."""
    table = patients.joined(table, getattr(source, "path", type(source).__name__), say=False)
    if patients.bag_column:
        table = without(table, patients.bag_column, left_out or ())
        table, _ = grouped_table(table, patients.bag_column, label_columns(options, labels), say=False)
    require_labels_of(table, options=options, left_out=left_out, **labels, and_split=and_split)
