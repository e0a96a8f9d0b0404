"""Style shared by all plots of a report: printable, with curves that can be distinguished without colour."""

from collections.abc import Iterable
from dataclasses import dataclass
from typing import Any

import numpy as np
import plotly.graph_objects as go
from numpy.typing import NDArray

# Okabe and Ito 2008 without yellow and black; each colour has its own dash pattern for greyscale print.
COLOURS = ("#0072B2", "#D55E00", "#009E73", "#CC79A7", "#E69F00", "#56B4E9")
DASHES = ("solid", "dash", "dot", "dashdot", "longdash", "longdashdot")
INK = "#1f2933"
FAINT = "#52606d"
GRID = "#e4e7eb"
# More points than this cannot be distinguished on a screen.
MAX_POINTS = 400


@dataclass(frozen=True)
class Plot:
    """A plot and its caption.

    Attributes:
        name: Identifier on the page.
        title: Heading.
        words: Caption, also the alternative text for screen readers.
        figure: The plotly figure.
    """

    name: str
    title: str
    words: str
    figure: go.Figure


def new_figure(x: str, y: str, **layout: Any) -> go.Figure:
    """Return an empty figure with axis titles."""
    figure = go.Figure()
    axis = {
        "showline": True,
        "linecolor": "#9aa5b1",
        "gridcolor": GRID,
        "zeroline": False,
        "ticks": "outside",
        "ticklen": 4,
    }
    axis |= {"tickcolor": "#9aa5b1", "automargin": True, "fixedrange": True}
    figure.update_layout(
        template="none",
        paper_bgcolor="white",
        plot_bgcolor="white",
        font={"family": "system-ui, -apple-system, 'Segoe UI', Roboto, sans-serif", "size": 13, "color": INK},
        margin={"l": 52, "r": 16, "t": 12, "b": 48},
        height=340,
        legend={"orientation": "h", "y": 1.02, "yanchor": "bottom", "x": 0, "bgcolor": "rgba(0,0,0,0)"},
        hoverlabel={"bgcolor": "white", "bordercolor": GRID, "font": {"color": INK}},
        dragmode=False,
        **layout,
    )
    title = {"font": {"color": FAINT, "size": 13}, "standoff": 8}
    figure.update_xaxes(title=title | {"text": x}, **axis)
    figure.update_yaxes(title=title | {"text": y}, **axis)
    return figure


def add_line(figure: go.Figure, x: NDArray[Any], y: NDArray[Any], name: str, number: int = 0, **line: Any) -> None:
    """Add a curve in the colour and dash pattern of its number, with at most `MAX_POINTS` points."""
    if len(x) > MAX_POINTS:
        kept = np.unique(np.linspace(0, len(x) - 1, MAX_POINTS).round().astype(int))
        x, y = x[kept], y[kept]
    style = {"color": COLOURS[number % len(COLOURS)], "dash": DASHES[number % len(DASHES)], "width": 2} | line
    figure.add_trace(go.Scatter(x=round_off(x), y=round_off(y), name=name, mode="lines", line=style))


def add_reference(figure: go.Figure, x: list[float], y: list[float], name: str) -> None:
    """Add a thin grey reference line."""
    line = {"color": "#9aa5b1", "width": 1, "dash": "dot"}
    figure.add_trace(go.Scatter(x=x, y=y, name=name, mode="lines", line=line, hoverinfo="skip"))


def round_off(values: Iterable[Any]) -> list[float]:
    """Return numbers rounded to five decimals, which keeps the page small."""
    return [round(float(value), 5) for value in values]
