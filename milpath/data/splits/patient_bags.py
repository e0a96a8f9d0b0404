"""Slides of a study as bags: joined with the tables of slides and patients, and put together by patient."""

import logging
from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd

from milpath.data.splits.label_matching import named_like_data
from milpath.data.store.bag_store import BagStore
from milpath.data.store.grouped_store import GroupedStore
from milpath.records.id_matching import why_unlike
from milpath.records.label_table import find_column, quote_first, require_column
from milpath.records.patient_table import ON_MISMATCH, WAY_OUT, columns_like, joined, read_patients, read_slides, settle

_log = logging.getLogger(__name__)
_OWN = ("bag_id", "start", "num_tiles")
_ONE_LABEL = "a bag has one label: correct the table, or make slides the bags with data.bag_column=null"


@dataclass(frozen=True)
class PatientOptions:
    """Options of studies with several slides per patient; see `BagDataModule` for their meaning."""

    patients: str | None = None
    slides: str | None = None
    bag_column: str | None = None
    patient_column: str = "patient_id"
    slide_column: str | None = None
    on_patient_mismatch: str = "error"
    # Slides that have a row but no tiles because they could not be read; these are reported elsewhere.
    unread: frozenset[str] = frozenset()
    way_out: str = WAY_OUT

    def __post_init__(self) -> None:
        if self.on_patient_mismatch not in ON_MISMATCH:
            raise ValueError(
                f"data.on_patient_mismatch is {self.on_patient_mismatch!r}; it must be one of {', '.join(ON_MISMATCH)}"
            )

    @property
    def has_tables(self) -> bool:
        """Whether there is a table of slides or of patients."""
        return bool(self.patients or self.slides)

    @property
    def group_column(self) -> str | None:
        """Column of the patient if slides are bags; `None` if patients are, or are unknown."""
        return self.patient_column if self.has_tables and not self.bag_column else None

    def require_tables(self) -> None:
        """Refuse tables with an error of their own before the data are looked at.

        Raises:
            FileNotFoundError: If there is no such table.
            ValueError: As `read_slides` and `read_patients`.
        """
        if self.slides:
            read_slides(self.slides, self.patient_column, self.slide_column)
        if self.patients:
            read_patients(self.patients, self.patient_column)

    def joined(self, table: pd.DataFrame, data: str | Path, *, say: bool = True) -> pd.DataFrame:
        """Return the slides that are in the tables, with their columns.

        Args:
            table: One row per slide of the data.
            data: The data, for messages.
            say: Log what is left out.

        Returns:
            Rows of `table`, in its order, with its index.

        Raises:
            FileNotFoundError: If there is no such table.
            ValueError: If the tables and the data do not fit and this is not skipped (`on_patient_mismatch`).
        """
        if not self.has_tables:
            return table
        name: str | Path = self.slides or data
        if self.slides:
            slides = read_slides(self.slides, self.patient_column, self.slide_column)
        else:
            column = require_column(
                table.columns, self.patient_column, f"data.patients={self.patients}", "data.patient_column"
            )
            slides = table.rename(columns={column: self.patient_column})
            slides = slides.assign(**{self.patient_column: names_of(slides, self.patient_column)})
        if self.patients:
            slides = joined(
                slides, read_patients(self.patients, self.patient_column), self.patient_column,
                slides_name=name, patients_name=self.patients, on_mismatch=self.on_patient_mismatch, say=say,
            )  # fmt: skip
        if not self.slides:
            return slides
        slides = named_like_data(slides, [*table["bag_id"], *self.unread], Path(name), say=say)
        return self._of_data(slides[~slides["bag_id"].isin(self.unread)], table, data, say)

    def _of_data(self, slides: pd.DataFrame, table: pd.DataFrame, data: str | Path, say: bool) -> pd.DataFrame:
        """Return the rows of the data that are in the table of slides, with its columns."""
        known, named = set(table["bag_id"]), set(slides["bag_id"])
        absent = [name for name in slides["bag_id"] if name not in known]
        strange = [name for name in table["bag_id"] if name not in named]
        problems = []
        if absent:
            problems.append(
                f"{len(absent):,} of {len(slides):,} slides in {self.slides} are not in {data} ({quote_first(absent)})"
            )
        if strange:
            problems.append(
                f"{len(strange):,} of {len(table):,} slides in {data} have no row in {self.slides}, so that their patient "
                f"is unknown ({quote_first(strange)})"
            )
        if absent and strange and (hint := why_unlike(absent, strange)):
            problems.append(hint)
        settle(
            problems, self.on_patient_mismatch, nothing_left=len(absent) == len(slides), say=say, way_out=self.way_out
        )
        kept = table[table["bag_id"].isin(named)]
        more = slides.set_index("bag_id")
        kept = kept.drop(columns=columns_like(kept, more.columns, _OWN))
        return kept.join(more, on="bag_id")


def names_of(table: pd.DataFrame, column: str) -> list[str]:
    """Return the names in a column as text; a whole number has no decimals.

    Raises:
        ValueError: If a cell is empty.
    """
    values = table[column]
    if (empty := values.isna()).any():
        raise ValueError(
            f"{int(empty.sum())} of {len(table)} slides have an empty cell in column {column!r} "
            f"(first: {table['bag_id'][empty].iloc[0]!r}); name the patient of each slide"
        )
    if pd.api.types.is_float_dtype(values) and (values % 1 == 0).all():
        values = values.astype(np.int64)
    return [str(value).strip() for value in values]


def grouped_table(
    table: pd.DataFrame, bag_column: str, alike: Sequence[str] | Mapping[str, str] = (), *, say: bool = True
) -> tuple[pd.DataFrame, list[np.ndarray]]:
    """Return one row per bag of several slides, and the rows of its slides.

    Args:
        table: One row per slide.
        bag_column: Column that names the bag, such as the patient.
        alike: Columns in which the slides of a bag must not differ, such as its label; or each with the way out.
        say: Log which columns differ between slides of a bag.

    Returns:
        `bag_id` and the other columns, sorted by name, without `start` and `num_tiles`. Different values of the slides of a
        bag are joined (`A + B`); an empty cell does not differ. Positions of the slides of each bag in `table`, ascending.

    Raises:
        ValueError: If the column does not exist or has an empty cell, or slides of a bag have two labels.
    """
    column = require_column(table.columns, bag_column, f"data.bag_column={bag_column}", "data.bag_column")
    names = np.array(names_of(table, column), dtype=object)
    distinct, codes = np.unique(names.astype(str), return_inverse=True)
    bags: list[str] = distinct.tolist()
    members = [np.flatnonzero(codes == number) for number in range(len(bags))]
    ways = dict(alike) if isinstance(alike, Mapping) else dict.fromkeys(alike, _ONE_LABEL)
    fixed = {found: way for name, way in ways.items() if (found := find_column(table.columns, name)) is not None}
    columns: dict[str, Any] = {"bag_id": bags}
    mixed = []
    for name in (str(name) for name in table.columns if name not in (*_OWN, column)):
        values = table[name].reset_index(drop=True)
        first = values.groupby(codes).first()  # the first that is not empty
        counts = values.groupby(codes).nunique()
        if (counts > 1).any():
            if name in fixed:
                bag = int(counts.to_numpy().argmax())
                raise ValueError(
                    _two_values(table, bags[bag], name, members[bag], int((counts > 1).sum())) + fixed[name]
                )
            mixed.append(name)
            texts = [
                " + ".join(sorted({str(value) for value in values.iloc[own].dropna()})) or None if count > 1 else value
                for own, count, value in zip(members, counts, first, strict=True)
            ]
            first = pd.Series(texts, dtype=object)
        columns[name] = first.to_numpy()
    columns[column] = bags
    if mixed and say:
        _log.info(
            "slides of a bag differ in %s: their values are joined with ' + ' in the table of bags", ", ".join(mixed)
        )
    return pd.DataFrame(columns), members


def _two_values(table: pd.DataFrame, bag: str, column: str, own: np.ndarray, count: int) -> str:
    """Return the start of the error message of a bag whose slides have two labels."""
    rows = table.iloc[own].dropna(subset=[column]).drop_duplicates(column)
    shown = " and ".join(
        f"{value} ({slide})" for slide, value in zip(rows["bag_id"][:2], rows[column][:2], strict=True)
    )
    more = f" and {count - 1} more" if count > 1 else ""
    return f"{bag!r}{more} has slides with different values of {column!r}: {shown}; "


def bags_of_slides(
    store: BagStore,
    options: PatientOptions,
    alike: Sequence[str] = (),
    excluded: Collection[str] = (),
) -> BagStore:
    """Return the bags of a study: slides with the columns of its tables, or its patients.

    Args:
        store: The store with a bag per slide.
        options: Tables, and the column that names the bags.
        alike: As in `grouped_table`.
        excluded: Slides and bags that are left out; only if bags are put together.
    """
    rows = options.joined(store.bags, store.path)
    if options.has_tables:
        store = store.view(rows.reset_index(drop=True), store.description)
    if not options.bag_column:
        return store
    rows = without(store.bags, options.bag_column, excluded)
    table, members = grouped_table(rows, options.bag_column, alike)
    positions = rows.index.to_numpy()
    return GroupedStore(store, table, [positions[own] for own in members])


def without(table: pd.DataFrame, bag_column: str, excluded: Collection[str]) -> pd.DataFrame:
    """Return the slides that are not excluded, by their name or that of their bag."""
    if not excluded:
        return table
    column = require_column(table.columns, bag_column, f"data.bag_column={bag_column}", "data.bag_column")
    out = table["bag_id"].isin(set(excluded)) | pd.Series(names_of(table, column), index=table.index).isin(
        set(excluded)
    )
    return table[~out]
