"""Comparison of methods as Markdown, CSV, JSON and LaTeX."""

import csv
import io
import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from milpath.metrics.intervals import Interval
from milpath.records.atomic_files import write_text
from milpath.reports.markdown import escape, markdown_table
from milpath.reports.method_tables.method_table import MethodRow, MethodTable
from milpath.reports.method_tables.run_design import Design

_LATEX = {"&": r"\&", "%": r"\%", "$": r"\$", "#": r"\#", "_": r"\_", "{": r"\{", "}": r"\}"}
_LATEX |= {"~": r"\textasciitilde{}", "^": r"\textasciicircum{}", "\\": r"\textbackslash{}"}


def write_table(table: MethodTable, folder: Path, record: Mapping[str, Any] | None = None) -> list[Path]:
    """Write `table.md`, `table.csv`, `table.json` and `table.tex`.

    Args:
        table: From `compare_methods`.
        folder: Output folder, created if missing.
        record: How the trainings were made, from `milpath.reports.method_tables.table_record.record_of`; it is added to
            `table.json` as `record`.

    Returns:
        The four paths.
    """
    folder.mkdir(parents=True, exist_ok=True)
    texts = {
        "table.md": as_markdown(table),
        "table.csv": as_csv(table),
        "table.json": json.dumps(
            as_json(table) | ({"record": dict(record)} if record else {}), indent=2, allow_nan=False
        )
        + "\n",
        "table.tex": as_latex(table),
    }
    for name, text in texts.items():
        write_text(folder / name, text)
    return [folder / name for name in texts]


def as_markdown(table: MethodTable) -> str:
    """Return the table in Markdown, followed by its notes."""
    head = ["method", f"{table.metric}, mean ± SE", "95% interval", f"p against {table.reference}", "folds"]
    rows = [
        [row.method, plus_minus(row), interval_words(row.interval), p_words(row, table), _folds(row)]
        for row in table.rows
    ]
    if table.beside:
        head.insert(3, f"{table.beside}, mean ± SE")
        for words, row in zip(rows, table.rows, strict=True):
            words.insert(3, beside_words(row))
    if _has_published(table):
        head.insert(2, "published")
        for words, row in zip(rows, table.rows, strict=True):
            words.insert(2, _number(row.published))
    lines = [f"## {escape(table.title)}", ""] if table.title else []
    lines += markdown_table(head, rows, [False] + [True] * (len(head) - 1))
    return "\n".join([*lines, "", *(f"- {escape(note)}" for note in table.notes), ""])


def as_csv(table: MethodTable) -> str:
    """Return the table as CSV with full precision; a missing number is an empty field."""
    file = io.StringIO()
    records = [_record(row, table) for row in table.rows]
    writer = csv.DictWriter(file, fieldnames=list(records[0]), lineterminator="\n")
    writer.writeheader()
    for record in records:
        writer.writerow(record | {name: "; ".join(record[name]) for name in ("failed", "undefined")})
    return file.getvalue()


def as_json(table: MethodTable) -> dict[str, Any]:
    """Return the table as plain values, with the value of every fold."""
    rows = []
    for row in table.rows:
        folds = [{"repeat": repeat, "fold": fold, "value": value} for (repeat, fold), value in row.values.items()]
        rows.append(_record(row, table) | {"folds": folds})
    return {
        "title": table.title,
        "metric": table.metric,
        "reference": table.reference,
        "complete": table.complete,
        "rows": rows,
        "notes": table.notes,
    }


def as_latex(table: MethodTable) -> str:
    """Return the table for LaTeX with booktabs, followed by the notes as comments."""
    beside = f"{_latex(table.beside)} & " if table.beside else ""
    lines = [
        rf"\begin{{tabular}}{{lrrr{'r' if beside else ''}r}}",
        r"\toprule",
        rf"Method & {_latex(table.metric)} & 95\% interval & {beside}$p$ & folds \\",
        r"\midrule",
    ]
    for row in table.rows:
        value = plus_minus(row).replace("±", r"$\pm$")
        interval = interval_words(row.interval)
        if beside:
            interval += " & " + beside_words(row).replace("±", r"$\pm$")
        p_value = p_words(row, table).replace("<", "$<$")
        lines.append(rf"{_latex(row.method)} & {value} & {interval} & {p_value} & {_folds(row)} \\")
    notes = [f"% {' '.join(note.split())}" for note in table.notes]
    return "\n".join([*lines, r"\bottomrule", r"\end{tabular}", *notes, ""])


def plus_minus(row: MethodRow) -> str:
    """Return mean and standard error as text."""
    return _mean_words(row.mean, row.standard_error)


def beside_words(row: MethodRow) -> str:
    """Return mean and standard error of the metric beside the main one as text."""
    return _mean_words(*row.beside)


def _mean_words(mean: float | None, error: float | None) -> str:
    if mean is None:
        return "no fold"
    return f"{mean:.3f}" + (f" ± {error:.3f}" if error is not None else "")


def interval_words(interval: Interval | None) -> str:
    """Return an interval as text."""
    if interval is None or interval.low is None or interval.high is None:
        return "undefined"
    return f"{interval.low:.3f} to {interval.high:.3f}"


def p_words(row: MethodRow, table: MethodTable) -> str:
    """Return the p-value of a row as text."""
    if row.method == table.reference:
        return "reference"
    if row.test is None:
        return "none" if table.design in (Design.SEEDS, Design.UNKNOWN) else "too few folds"
    if row.test.p_value is None:
        return "undefined"
    return "< 0.001" if row.test.p_value < 0.001 else f"{row.test.p_value:.3f}"


def _folds(row: MethodRow) -> str:
    """Return how many of the planned folds are included in the mean."""
    words = f"{row.num_done}/{row.num_planned}"
    return f"{words} ({len(row.failed)} failed)" if row.failed else words


def _record(row: MethodRow, table: MethodTable) -> dict[str, Any]:
    """Return a row as plain values."""
    mean, error = row.beside
    beside = {table.beside: mean, f"{table.beside}_standard_error": error} if table.beside else {}
    return {
        "method": row.method,
        "mean": row.mean,
        "standard_error": row.standard_error,
        "low": row.interval.low if row.interval else None,
        "high": row.interval.high if row.interval else None,
        **beside,
        "difference": row.test.difference if row.test else row.difference.value if row.difference else None,
        "p_value": row.test.p_value if row.test else None,
        "test": row.test.name if row.test else None,
        "published": row.published,
        "folds_done": row.num_done,
        "folds_planned": row.num_planned,
        "failed": list(row.failed),
        "undefined": list(row.undefined),
    }


def _has_published(table: MethodTable) -> bool:
    return any(row.published is not None for row in table.rows)


def _number(value: float | None) -> str:
    return "" if value is None else f"{value:.3f}"


def _latex(text: str) -> str:
    """Return text with LaTeX's special characters escaped."""
    return "".join(_LATEX.get(letter, letter) for letter in text)
