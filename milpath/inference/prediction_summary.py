"""What `milpath predict` prints at its end: the first predictions, the number of each class, and where the files are."""

from pathlib import Path

import pandas as pd

from milpath.inference.ensemble.fold_columns import EACH
from milpath.records.data_warning import UNFAMILIAR_COLUMNS
from milpath.records.error_text import counted, one_line_of

NUM_SHOWN = 10
UNFAMILIAR = UNFAMILIAR_COLUMNS[0]


def prediction_summary(output: Path, what: str = "slide") -> str:
    """Return the calls in `predictions.csv` of a finished prediction as text.

    Args:
        output: The folder of the prediction.
        what: What is predicted: "slide" or "patient".

    Returns:
        A table of the first of them, the counts of all, and the path of the file; lines end with a newline.
    """
    table = pd.read_csv(output / "predictions.csv", dtype={"id": str, "predicted": str}, keep_default_na=False)
    warning = str(table.pop("warning").iloc[0]) if "warning" in table and len(table) else ""
    last = [f"warning: {one_line_of(warning)}"] if warning else []
    columns = [name for name in table.columns if name.startswith("probability_")]
    if not columns:
        return "".join(f"{line}\n" for line in [*_numbers_summary(table, output, what), *last])
    certain = table[columns].astype(float).max(axis=1)
    rows = [[what, "predicted", "highest probability", ""]]
    for position, row in enumerate(table.head(NUM_SHOWN).to_dict("records")):
        refer = "refer to a person" if int(row["defer"]) else ""
        refer += ": unfamiliar" if refer and str(row.get(UNFAMILIAR)) == "1" else ""
        rows.append([one_line_of(row["id"]), one_line_of(row["predicted"]), f"{certain.iloc[position]:.3f}", refer])
    lines = _aligned(rows, len(table))
    names = [name.removeprefix("probability_") for name in columns]
    counts = ", ".join(f"{int((table['predicted'] == name).sum()):,} {one_line_of(name)}" for name in names)
    num_deferred = int(table["defer"].astype(int).sum())
    lines.append(f"{counted(len(table), what)}: {counts}; {num_deferred:,} to refer to a person")
    lines += _unfamiliar_line(table, what)
    if "set" in table:
        single = int(table["set"].isin(names).sum())
        lines.append(f"prediction sets: {single:,} of {counted(len(table), what)} with one class")
    lines.append(f"predictions: {output / 'predictions.csv'}")
    return "".join(f"{line}\n" for line in [*lines, *last])


def _numbers_summary(table: pd.DataFrame, output: Path, what: str) -> list[str]:
    """Return the predicted numbers as lines; an empty cell is a number that is not defined."""
    names = [str(name) for name in table.columns if name not in ("id", EACH, *UNFAMILIAR_COLUMNS[::2])]
    rows = [[what, *names]]
    for row in table.head(NUM_SHOWN).to_dict("records"):
        rows.append([one_line_of(row["id"]), *(_cell(name, str(row[name])) for name in names)])
    last = [counted(len(table), what), *_unfamiliar_line(table, what)]
    return [*_aligned(rows, len(table)), *last, f"predictions: {output / 'predictions.csv'}"]


def _unfamiliar_line(table: pd.DataFrame, what: str) -> list[str]:
    """Return how many of the predictions are unfamiliar; empty without a model or a bound."""
    if UNFAMILIAR not in table or (cells := table[UNFAMILIAR].astype(str)).eq("").all():
        return []
    count = int(cells.eq("1").sum())
    return [f"unfamiliar, to refer to a person whatever the answer: {count:,} of {counted(len(table), what)}"]


def _cell(name: str, text: str) -> str:
    """Return a cell of a prediction: a number with four digits, a class or a deferral as it is."""
    if name.endswith(("/predicted", "/defer", "/set")):
        return one_line_of(text)
    return f"{float(text):.4g}" if text else "-"


def _aligned(rows: list[list[str]], num_slides: int) -> list[str]:
    """Return the first rows of a table as lines with columns of equal width, and how many slides are not shown."""
    widths = [max(len(row[column]) for row in rows) for column in range(len(rows[0]))]
    lines = ["  ".join(cell.ljust(width) for cell, width in zip(row, widths, strict=True)).rstrip() for row in rows]
    if num_slides > NUM_SHOWN:
        lines.append(f"... and {num_slides - NUM_SHOWN:,} more")
    return lines
