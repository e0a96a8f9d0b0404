"""Curves of removed and kept tiles, for a page and as a picture."""

import io
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
import plotly.graph_objects as go
from matplotlib.figure import Figure

from milpath.inference.faithfulness.tile_relevance import ATTENTION, ORDERS, RANDOM
from milpath.reports.plots.plot_style import COLOURS, DASHES, Plot, add_line, new_figure, round_off

_GREY = "#52606d"
# Orders whose interval is shaded; with all of them none could be told apart.
_SHADED = (ATTENTION, RANDOM)
_DASHES_OF_PICTURE = {
    "solid": "-", "dash": (0, (6, 3)), "dot": (0, (1, 2)), "dashdot": "-.", "longdash": (0, (10, 3)),
    "longdashdot": (0, (10, 3, 1, 3)),
}  # fmt: skip
_SIDES = (
    ("deletion", "removed", "Removing tiles", "share of the tiles removed, first of the order first", "falls early"),
    ("insertion", "kept", "Keeping only tiles", "share of the tiles kept, first of the order first", "rises early"),
)


def faithfulness_plots(record: Mapping[str, Any]) -> list[Plot]:
    """Return both plots of the bags that the verdict is about; none of an empty record."""
    if not record:
        return []
    part = headline_part(record)
    plots = []
    for kind, shares, title, axis, good in _SIDES:
        figure = new_figure(axis, _short(record["quantity"]))
        x = [float(share) for share in record[shares]]
        for order, style in _styles(part):
            values, low, high = zip(*part["orders"][order]["probability"][kind], strict=True)
            if order in _SHADED and None not in (*low, *high):
                _shade(figure, x, low, high, style["color"])
            add_line(figure, np.array(x), np.array(values), order, **style)
        figure.update_xaxes(range=[-0.02, 1.02], tickformat=".0%")
        if record["of_classes"]:
            figure.update_yaxes(range=[-0.03, 1.03])
        areas = "; ".join(
            f"{order} {part['orders'][order]['probability'][f'{kind}_area'][0]:.3f}" for order, _ in _styles(part)
        )
        words = (
            f"Mean over {part['num_bags']:,} bags; the bands are 95% intervals of attention and of random orders. "
            f"An order is faithful if its curve {good}. Mean height of each curve: {areas}."
        )
        plots.append(Plot(f"faithfulness-{kind}", title, words, figure))
    return plots


def curve_picture(record: Mapping[str, Any]) -> str:
    """Return both plots side by side as SVG."""
    part = headline_part(record)
    figure = Figure(figsize=(10.5, 4.2), layout="constrained")
    axes = figure.subplots(1, 2, sharey=True)
    for axis, (kind, shares, title, label, _) in zip(axes, _SIDES, strict=True):
        x = [100 * float(share) for share in record[shares]]
        for order, style in _styles(part):
            values, low, high = zip(*part["orders"][order]["probability"][kind], strict=True)
            if order in _SHADED and None not in (*low, *high):
                axis.fill_between(x, low, high, color=style["color"], alpha=0.18, linewidth=0)
            line = {"color": style["color"], "linestyle": _DASHES_OF_PICTURE[style["dash"]], "linewidth": 1.8}
            axis.plot(x, values, label=order, **line)
        axis.set_title(title, fontsize=11)
        axis.set_xlabel(label.replace("share", "percent"))
        axis.set_xlim(-2, 102)
        if record["of_classes"]:
            axis.set_ylim(-0.03, 1.03)
        axis.grid(color="#e4e7eb", linewidth=0.8)
        axis.spines[["top", "right"]].set_visible(False)
    axes[0].set_ylabel(_short(record["quantity"]))
    handles, labels = axes[0].get_legend_handles_labels()
    figure.legend(handles, labels, loc="outside lower center", ncols=len(labels), frameon=False, fontsize=9)
    name = part["name"] if part["name"] == "all bags" or not record["of_classes"] else f"bags predicted {part['name']}"
    figure.suptitle(
        f"{part['num_bags']:,} {name}" if name != "all bags" else f"All {part['num_bags']:,} bags", fontsize=11
    )
    file = io.StringIO()
    figure.savefig(file, format="svg", metadata={"Date": None, "Creator": "milpath"})
    return file.getvalue()


def headline_part(record: Mapping[str, Any]) -> Mapping[str, Any]:
    """Return the part of a record that its verdict is about."""
    found: Mapping[str, Any] = next(part for part in record["parts"] if part["name"] == record["headline"])
    return found


def _styles(part: Mapping[str, Any]) -> list[tuple[str, dict[str, Any]]]:
    """Return the orders with their colour and dash, which each order keeps in every figure."""
    found = []
    for number, order in enumerate(ORDERS):
        if order in part["orders"]:
            style = {"color": COLOURS[number % len(COLOURS)], "dash": DASHES[number % len(DASHES)]}
            if order == RANDOM:
                style = {"color": _GREY, "dash": "dot"}
            found.append((order, style))
    return found


def _shade(figure: go.Figure, x: Sequence[float], low: Sequence[float], high: Sequence[float], colour: str) -> None:
    """Add a band between two curves."""
    red, green, blue = (int(colour[place : place + 2], 16) for place in (1, 3, 5))
    figure.add_trace(
        go.Scatter(
            x=[*x, *reversed(x)], y=round_off([*high, *reversed(low)]), fill="toself", mode="lines", line={"width": 0},
            fillcolor=f"rgba({red},{green},{blue},0.16)", hoverinfo="skip", showlegend=False,
        )
    )  # fmt: skip


def _short(quantity: str) -> str:
    return quantity if len(quantity) < 60 else f"{quantity[:57]}..."
