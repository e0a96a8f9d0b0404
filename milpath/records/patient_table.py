"""The tables of a study: its patients with their labels, and its slides with the patient of each."""

import logging
from collections.abc import Sequence
from pathlib import Path

import pandas as pd

from milpath.records.id_matching import match_ids, why_unlike
from milpath.records.label_table import find_column, own_columns, quote_first, read_table

_log = logging.getLogger(__name__)
ON_MISMATCH = ("error", "skip")
WAY_OUT = "add what is missing, or leave these out with data.on_patient_mismatch=skip"


def read_slides(path: str | Path, patient_column: str = "patient_id", slide_column: str | None = None) -> pd.DataFrame:
    """Read a table with one row per slide.

    Args:
        path: A table with a header (see `read_table`).
        patient_column: Column that names the patient; its cells stay text.
        slide_column: Column that names the slide; `None` takes `bag_id`, `image_id`, `slide_id` or `id`.

    Returns:
        `bag_id` (the slide), the patient under the name `patient_column`, and the other columns.

    Raises:
        FileNotFoundError: If there is no such file.
        ValueError: If a column is missing, a row has no slide or no patient, a slide has two rows, or it is under two
            patients.
    """

    def read(required: Sequence[str], id_column: str | None, option: str) -> pd.DataFrame:
        return read_table(
            path, required, unique=False, what="table of slides", id_column=id_column, id_option=f"data.{option}"
        )

    table = read((patient_column,), slide_column, "slide_column")
    named = read((), patient_column, "patient_column")
    table = table.assign(**{patient_column: named["bag_id"]})
    for slide, rows in table[table["bag_id"].duplicated(keep=False)].groupby("bag_id", sort=False):
        numbers = " and ".join(map(str, rows.index[:2]))
        if len(set(rows[patient_column])) > 1:
            raise ValueError(
                f"{path} puts slide {slide!r} under the patients {quote_first(rows[patient_column].unique().tolist())} "
                f"(rows {numbers}); a slide is of one patient"
            )
        raise ValueError(f"{path} names slide {slide!r} in more than one row (rows {numbers}); keep one row per slide")
    return table


def read_patients(path: str | Path, patient_column: str = "patient_id") -> pd.DataFrame:
    """Read a table with one row per patient.

    Args:
        path: A table with a header (see `read_table`).
        patient_column: Column that names the patient.

    Returns:
        `bag_id` (the patient) and the other columns.

    Raises:
        FileNotFoundError: If there is no such file.
        ValueError: If the column is missing, a row has no patient, or a patient has two rows; columns in which they differ
            are named.
    """
    option = "data.patient_column"
    table = read_table(path, unique=False, what="table of patients", id_column=patient_column, id_option=option)
    for patient, rows in table[table["bag_id"].duplicated(keep=False)].groupby("bag_id", sort=False):
        differing = [str(name) for name in rows.columns.drop("bag_id") if len(rows[name].drop_duplicates()) > 1]
        said = f"with different values of {', '.join(differing)}" if differing else "with the same values"
        raise ValueError(
            f"{path} has patient {patient!r} in rows {' and '.join(map(str, rows.index[:2]))} {said}; keep one row per "
            "patient"
        )
    return table


def joined(
    slides: pd.DataFrame,
    patients: pd.DataFrame,
    patient_column: str,
    *,
    slides_name: str | Path,
    patients_name: str | Path,
    on_mismatch: str = "error",
    say: bool = True,
) -> pd.DataFrame:
    """Return one row per slide with the columns of its patient.

    Args:
        slides: `bag_id`, the column of the patient, and others.
        patients: `bag_id` (the patient) and others, which replace columns of the same name.
        patient_column: Column of the patient in `slides`.
        slides_name: The table of slides, for messages.
        patients_name: The table of patients, for messages.
        on_mismatch: What to do about patients without slides and slides without a patient: "error" or "skip".
        say: Log what is left out.

    Raises:
        ValueError: If a patient has no slide or a slide no patient and these are not skipped.
    """
    known = list(dict.fromkeys(slides[patient_column]))
    try:
        names = match_ids(patients["bag_id"].tolist(), known)
    except ValueError as error:
        raise ValueError(f"{patients_name}: {str(error).replace('slide', 'patient')}") from None
    without = [name for name in patients["bag_id"] if name not in names]
    strange = slides[~slides[patient_column].isin(set(names.values()))]
    problems = []
    if without:
        problems.append(
            f"{len(without):,} of {len(patients):,} patients in {patients_name} have no slide in {slides_name} "
            f"({quote_first(without)})"
        )
    if len(strange):
        problems.append(
            f"{len(strange):,} of {len(slides):,} slides in {slides_name} are of patients who are not in {patients_name} "
            f"(first: {strange['bag_id'].iloc[0]!r} of {strange[patient_column].iloc[0]!r})"
        )
    if without and len(strange) and (hint := why_unlike(without, sorted(set(strange[patient_column])))):
        problems.append(hint)
    settle(problems, on_mismatch, nothing_left=len(strange) == len(slides), say=say)
    rows = patients.assign(**{patient_column: patients["bag_id"].map(names)})
    rows = rows.dropna(subset=[patient_column]).set_index(patient_column).drop(columns="bag_id")
    named = own_columns(dict.fromkeys(rows.columns), ("start", "num_tiles"))
    rows = rows.rename(columns=dict(zip(rows.columns, named, strict=True)))
    kept = slides.drop(index=strange.index)
    replaced = columns_like(kept, rows.columns, (patient_column,))
    found = kept.drop(columns=replaced).join(rows, on=patient_column)
    for column in replaced if say else ():
        _warn_if_different(kept, found, column, slides_name, patients_name)
    return found


def _warn_if_different(
    slides: pd.DataFrame, found: pd.DataFrame, column: str, slides_name: str | Path, patients_name: str | Path
) -> None:
    """Warn about cells of the slides that differ from those of their patients, which replace them; empty ones do not."""
    own, new = slides[column], found[columns_like(found, [column])[0]]
    differs = own.notna() & new.notna() & (own.astype(str).str.strip() != new.astype(str).str.strip())
    numbers = pd.to_numeric(own, errors="coerce"), pd.to_numeric(new, errors="coerce")
    differs &= ~(numbers[0] == numbers[1])
    if differs.any():
        first = int(differs.to_numpy().argmax())
        _log.warning(
            "column %r of %s differs from that of %s for %s of %s slides (first: %r has %s, its patient %s); that of the "
            "patients is used",
            column, slides_name, patients_name, f"{int(differs.sum()):,}", f"{len(slides):,}",
            slides["bag_id"].iloc[first], own.iloc[first], new.iloc[first],
        )  # fmt: skip


def settle(
    problems: Sequence[str], on_mismatch: str, *, nothing_left: bool, say: bool = True, way_out: str = WAY_OUT
) -> None:
    """Raise what does not fit, or log it where it is to be left out.

    Raises:
        ValueError: If there are problems and these are not skipped, or nothing would be left.
    """
    if not problems:
        return
    if nothing_left or on_mismatch == "error":
        way_out = "give tables that belong together" if nothing_left else way_out
        raise ValueError(f"{'; '.join(problems)}; {way_out}")
    for problem in problems if say else ():
        _log.warning("left out: %s", problem)


def columns_like(table: pd.DataFrame, names: Sequence[str] | pd.Index, kept: Sequence[str] = ()) -> list[str]:
    """Return the columns of a table that are called like some names, except for `bag_id` and those to keep."""
    found = {find_column(table.columns, str(name)) for name in names} - {None, "bag_id", *kept}
    return [str(name) for name in table.columns if name in found]
