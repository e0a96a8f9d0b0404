"""Patients: those on two sides of a split, and one patient under two names."""

import re
import unicodedata
from collections import Counter, defaultdict
from collections.abc import Sequence

import numpy as np
import pandas as pd

from milpath.checks.findings import CheckedSlides, Finding
from milpath.records.error_text import counted
from milpath.records.label_table import find_column

# Columns that name the patient in public cohorts and in the tables of this library.
PATIENT_COLUMNS = (
    "patient_id", "patient", "case_id", "case", "subject_id", "subject", "participant_id", "participant", "donor_id",
    "donor", "bcr_patient_barcode", "case_submitter_id",
)  # fmt: skip
_TCGA = re.compile(r"TCGA-\w{2}-\w{4}(?=-|\.|$)")
_PARTS = re.compile(r"[^\W\d_]+|\d+")
# Of a prefix or suffix that somebody may have added to a name.
_MOST_LETTERS = 10
_MOST_SHOWN = 3
# Of a patient, on average.
_MOST_SLIDES = 100


def patients_in_two_splits(slides: CheckedSlides) -> Finding:
    """Return which patients are in more than one split."""
    check = "patients across splits"
    if slides.groups is None:
        return Finding(
            "unchecked", check,
            "no column names the patients: give data.group_column=NAME (or group_column=NAME with a table)",
        )  # fmt: skip
    frame = pd.DataFrame({"group": slides.groups, "split": slides.splits})
    column = slides.group_column or "the groups"
    if not slides.has_splits:
        return Finding("unchecked", check, f"no split is known; {column} has {slides.num_groups:,} values")
    alone = slides.alone & (frame["split"] != "").to_numpy()
    named = len(set(slides.groups[~slides.alone & (frame["split"] != "").to_numpy()]))
    frame = frame[frame["split"] != ""]
    counts = pd.crosstab(frame["group"], frame["split"])
    torn = counts[(counts > 0).sum(axis=1) > 1]
    if torn.empty:
        none = f"none of {named:,} values of {column} is in two splits"
        if not alone.any():
            return Finding("ok", check, none)
        missing = f"{none}; {slides.counted(int(alone.sum()))} have no value, and each counts as a patient of its own"
        # A file of groups names those that belong together.
        return Finding("ok" if column.startswith("the groups") else "look", check, missing)
    examples = [
        f"{group}: " + ", ".join(f"{split} {count}" for split, count in row.items() if count)
        for group, row in torn.iloc[:_MOST_SHOWN].iterrows()
    ]
    within = int(np.isin(frame["group"], torn.index).sum())
    return Finding(
        "leak", check,
        f"{len(torn):,} of {named:,} values of {column} are in more than one split, with {slides.counted(within)}; "
        f"split by them: data.group_column={slides.group_column or 'NAME'}",
        tuple(examples),
    )  # fmt: skip


def patient_column(table: pd.DataFrame) -> str | None:
    """Return the column that names the patients by its name; `None` if there is none.

    A column of few values, such as `case` of a study with controls, names no patients.
    """
    for name in PATIENT_COLUMNS:
        found = find_column(table.columns, name)
        if found is not None and table[found].nunique() > max(2, len(table) // _MOST_SLIDES):
            return found
    return None


def patients_of_names(names: Sequence[str]) -> list[str] | None:
    """Return the patient of each slide of TCGA, which its name begins with; `None` for other slides.

    Example:
        >>> patients_of_names(["TCGA-AA-3488-01Z-00-DX1", "TCGA-AA-3488-01A-01-BS1"])
        ['TCGA-AA-3488', 'TCGA-AA-3488']
    """
    found = [_TCGA.match(name.upper()) for name in names]
    return [match.group() for match in found if match] if found and all(found) else None


def patients_with_two_names(values: Sequence[str], column: str) -> list[Finding]:
    """Return names that may be of one patient: they differ by capitals, blanks, signs, zeros, a prefix or a suffix.

    Args:
        values: Names of the patients, repeated or not.
        column: Where they come from.
    """
    check = "one patient under two names"
    names = sorted(set(values))
    forms: dict[tuple[str, ...], list[str]] = defaultdict(list)
    for name in names:
        forms[name_form(name)].append(name)
    same = [own for form, own in forms.items() if len(own) > 1 and form]
    longer = _with_prefix_or_suffix(list(forms))
    rare = [(forms[short][0], forms[long][0]) for short, long in longer]
    # Names that mostly come with and without a suffix are a scheme (P1, P1a, P1b), not slips.
    scheme = len({short for short, _ in longer}) > max(3, len(names) // 10)
    findings = []
    if same:
        groups = f"{counted(len(same), 'group')} of values of {column}"
        sentence = f"{groups} differ only by capitals, blanks, signs or leading zeros"
        findings.append(
            Finding("look", check, sentence, tuple(" = ".join(map(repr, own)) for own in same[:_MOST_SHOWN]))
        )
    if rare:
        sentence = f"{counted(len(rare), 'pair')} of values of {column} differ only by letters before or after"
        if scheme:
            sentence += ": so many that this may be how they are named"
        examples = tuple(f"{short!r} = {long!r}" for short, long in rare[:_MOST_SHOWN])
        findings.append(Finding("note" if scheme else "look", check, sentence, examples))
    if not findings:
        findings.append(
            Finding("ok", check, f"no two of {len(names):,} values of {column} differ only by how they are written")
        )
    return findings


def name_form(name: str) -> tuple[str, ...]:
    """Return the words and numbers of a name without capitals, signs and leading zeros.

    Example:
        >>> name_form(" P-007b ") == name_form("p7B"), name_form("1.10") == name_form("11.0")
        (True, False)
    """
    parts = _PARTS.findall(unicodedata.normalize("NFKC", name).casefold())
    return tuple(part.lstrip("0") or "0" if part.isdigit() else part for part in parts)


def slides_under_two_names(slides: CheckedSlides) -> Finding:
    """Return names of slides that differ only by how they are written."""
    check = "one slide under two names"
    counts = Counter(map(name_form, slides.names))
    twice = {form for form, count in counts.items() if count > 1}
    if not twice:
        return Finding(
            "ok", check, f"no two of {slides.counted(len(counts))} have names that differ only by how they are written"
        )
    own: dict[tuple[str, ...], list[str]] = defaultdict(list)
    for name in slides.names:
        if (form := name_form(name)) in twice:
            own[form].append(name)
    examples = tuple(" = ".join(map(repr, names)) for names in list(own.values())[:_MOST_SHOWN])
    return Finding("look", check, f"{counted(len(twice), 'name')} written in two ways", examples)


def _with_prefix_or_suffix(forms: Sequence[tuple[str, ...]]) -> list[tuple[tuple[str, ...], tuple[str, ...]]]:
    """Return pairs of names of which the longer one is the other with a word before or after it."""
    known = set(forms)
    found = []
    for form in forms:
        for short, added in ((form[1:], form[:1]), (form[:-1], form[-1:])):
            is_word = added and not added[0].isdigit() and len(added[0]) <= _MOST_LETTERS
            if is_word and short in known and any(part.isdigit() for part in short):
                found.append((short, form))
    return sorted(set(found))
