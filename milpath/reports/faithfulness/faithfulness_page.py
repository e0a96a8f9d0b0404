"""The folder of a faithfulness measurement: a page, a table per bag, a picture and the record."""

import csv
import io
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from milpath.inference.faithfulness.measure_bags import AGREEMENTS, MeasuredBag
from milpath.inference.faithfulness.tile_relevance import ORDERS
from milpath.metrics.faithfulness.perturbation_curves import area
from milpath.records.atomic_files import write_json, write_text
from milpath.reports.faithfulness.faithfulness_plots import curve_picture, faithfulness_plots
from milpath.reports.faithfulness.faithfulness_summary import row_drop
from milpath.reports.rendering import render
from milpath.reports.run_folder import FAITHFULNESS

TABLE, PICTURE = "faithfulness.csv", "faithfulness.svg"


def write_faithfulness(
    folder: Path,
    rows: Sequence[MeasuredBag],
    record: Mapping[str, Any],
    groups: Mapping[str, str] | None = None,
    *,
    page: bool = True,
) -> Path:
    """Write `faithfulness.json`, `faithfulness.csv`, `faithfulness.svg` and, as `report.html`, a page.

    Args:
        folder: Output folder, created if missing.
        rows: One row per bag and network.
        record: What `summarise` returns, with `networks`, `title`, `warning` and `notes`.
        groups: Bag to group; `None` if bags are independent.
        page: Whether to write the page; in the folder of an evaluation its report has the section.

    Returns:
        The path of the page, or of the record without one.
    """
    folder.mkdir(parents=True, exist_ok=True)
    write_text(folder / TABLE, _table(rows, record, groups))
    write_text(folder / PICTURE, curve_picture(record))
    write_json(folder / FAITHFULNESS, dict(record))
    if not page:
        return folder / FAITHFULNESS
    html = render(
        "faithfulness.html.j2",
        faithfulness_plots(record),
        ("plots.js",),
        title=record["title"],
        warning=record["warning"],
        faithfulness=record,
    )
    write_text(folder / "report.html", html)
    return folder / "report.html"


def remove_faithfulness(folder: Path) -> None:
    """Delete what an earlier evaluation measured in a folder, which a report would show beside other predictions."""
    for name in (FAITHFULNESS, TABLE, PICTURE):
        (folder / name).unlink(missing_ok=True)


def _table(rows: Sequence[MeasuredBag], record: Mapping[str, Any], groups: Mapping[str, str] | None) -> str:
    """Return one row per bag and network: what is explained, and of each order areas, drop and tile AUROC."""
    orders = [order for order in ORDERS if any(order in row.deletion for row in rows)]
    words = [order.replace(" ", "_") for order in orders]
    agreements = [name for name in AGREEMENTS if any(row.between for row in rows)]
    augmented = [name for name in (*AGREEMENTS, "change") if any(row.augmented for row in rows)]
    head = ["bag_id", "network", *(["group"] if groups is not None else []), "num_tiles", "explained"]
    head += ["value", *(["log_odds"] if record["of_classes"] else [])]
    for word in words:
        head += [f"deletion_area_{word}", f"insertion_area_{word}", f"drop_{word}", f"tile_auroc_{word}"]
    head += [*(f"between_{name}" for name in agreements), *(f"augmented_{name}" for name in augmented)]
    file = io.StringIO()
    writer = csv.writer(file, lineterminator="\n")
    writer.writerow(head)
    for row in rows:
        cells: list[Any] = [row.bag_id, row.network, *([groups[row.bag_id]] if groups is not None else [])]
        cells += [row.num_tiles, row.explained, _cell(row.values[0])]
        cells += [_cell(row.values[1])] if record["of_classes"] else []
        for order in orders:
            if order not in row.deletion:
                cells += ["", "", "", ""]
                continue
            removed, kept = row.deletion[order][0], row.insertion[order][0]
            drop = row_drop(removed[None], row.values[:1], float(record["share"]))[0]
            cells += [_cell(area(removed)), _cell(area(kept)), _cell(drop), _cell(row.truth.get(order, np.nan))]
        cells += [_cell(row.between.get(name, np.nan)) for name in agreements]
        writer.writerow([*cells, *(_cell(row.augmented.get(name, np.nan)) for name in augmented)])
    return file.getvalue()


def _cell(value: Any) -> str:
    """Return a number in full precision; empty if it is not defined."""
    return f"{float(value):.9g}" if np.isfinite(value) else ""
