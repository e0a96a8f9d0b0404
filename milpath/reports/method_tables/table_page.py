"""The report of a comparison of methods: means with intervals, every fold, and failed trainings."""

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import plotly.graph_objects as go

from milpath.records.atomic_files import write_text
from milpath.reports.headline import metric_title
from milpath.reports.method_tables.method_table import MethodTable
from milpath.reports.method_tables.tables import beside_words, interval_words, p_words, plus_minus
from milpath.reports.plots.plot_style import COLOURS, FAINT, Plot, new_figure, round_off
from milpath.reports.rendering import render


def write_table_report(table: MethodTable, folder: Path, provenance: Mapping[str, Any] | None = None) -> Path:
    """Write `report.html` of a cross-validated table.

    Args:
        table: From `compare_methods`.
        folder: Output folder, created if missing.
        provenance: Result of `milpath.records.provenance.describe_environment`; None leaves it out.

    Returns:
        The path of the report.
    """
    folder.mkdir(parents=True, exist_ok=True)
    rows = [
        {
            "row": row,
            "value": plus_minus(row),
            "interval": interval_words(row.interval),
            "beside": beside_words(row),
            "p": p_words(row, table),
        }
        for row in table.rows
    ]
    plots = [_methods_plot(table)] if any(row.values for row in table.rows) else []
    page = render(
        "table.html.j2",
        plots,
        ("plots.js",),
        warning=table.warning,
        title=table.title or "Table of methods",
        table=table,
        metric_title=metric_title(table.metric),
        beside_title=metric_title(table.beside) if table.beside else "",
        rows=rows,
        has_published=any(row.published is not None for row in table.rows),
        provenance=dict(provenance or {}),
    )
    write_text(folder / "report.html", page)
    return folder / "report.html"


def _methods_plot(table: MethodTable) -> Plot:
    """Return a plot with folds as rings, the mean and its interval as a diamond, the published value as a cross."""
    metric = metric_title(table.metric)
    figure = new_figure(metric, "")
    names = [row.method for row in table.rows]
    folds = [(value, row.method) for row in table.rows for value in row.values.values()]
    ring = {"color": COLOURS[5], "size": 7, "symbol": "circle-open"}
    figure.add_trace(
        go.Scatter(
            x=round_off([value for value, _ in folds]),
            y=[name for _, name in folds],
            name="fold",
            mode="markers",
            marker=ring,
        )
    )
    shown = [row for row in table.rows if row.mean is not None]
    low = [(row.interval.low if row.interval else None) for row in shown]
    high = [(row.interval.high if row.interval else None) for row in shown]
    means = [row.mean or 0.0 for row in shown]
    reach = {
        "type": "data",
        "symmetric": False,
        "array": [0.0 if end is None else max(end - mean, 0.0) for end, mean in zip(high, means, strict=True)],
        "arrayminus": [0.0 if end is None else max(mean - end, 0.0) for end, mean in zip(low, means, strict=True)],
        "color": COLOURS[0],
        "thickness": 2,
        "width": 6,
    }
    diamond = {"color": COLOURS[0], "size": 10, "symbol": "diamond"}
    figure.add_trace(
        go.Scatter(
            x=round_off(means),
            y=[row.method for row in shown],
            error_x=reach,
            name="mean, 95% interval",
            mode="markers",
            marker=diamond,
        )
    )
    published = [(row.published, row.method) for row in table.rows if row.published is not None]
    if published:
        cross = {"color": COLOURS[1], "size": 11, "symbol": "x-thin", "line": {"width": 2.5, "color": COLOURS[1]}}
        x, y = [value for value, _ in published], [name for _, name in published]
        figure.add_trace(go.Scatter(x=round_off(x), y=y, name="published", mode="markers", marker=cross))
    figure.update_yaxes(categoryorder="array", categoryarray=names[::-1], type="category", tickfont={"color": FAINT})
    figure.update_layout(height=150 + 46 * len(names))
    words = "; ".join(f"{row.method} {plus_minus(row)}" for row in table.rows)
    return Plot("methods", metric, f"{metric}, mean ± standard error over folds: {words}.", figure)
