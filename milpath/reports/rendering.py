"""Rendering of templates to self-contained HTML: scripts, styles and data are inlined, nothing is fetched."""

import shlex
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from jinja2 import Environment, FileSystemLoader, StrictUndefined
from markupsafe import Markup
from plotly.offline import get_plotlyjs

from milpath.drawing.embedded_data import embed as embed
from milpath.drawing.picture_frame import RESEARCH_USE_ONLY
from milpath.metrics.intervals import Interval
from milpath.reports.plots.plot_style import Plot

TEMPLATES = Path(__file__).parent / "templates"


def render(template: str, plots: Sequence[Plot] = (), scripts: Sequence[str] = (), **content: Any) -> str:
    """Return a page.

    Args:
        template: File in `templates`.
        plots: Plots of the page; plotly.js is included only if there are any.
        scripts: Files in `templates` that the page runs.
        **content: Variables of the template; all text is escaped.
    """
    environment = Environment(
        loader=FileSystemLoader(TEMPLATES),
        autoescape=True,
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    environment.filters.update(
        embed=embed, number=number, percent=percent, interval=interval, no_interval=no_interval, typed=shlex.join
    )
    return environment.get_template(template).render(
        plots=plots,
        figures={plot.name: plot.figure.to_plotly_json() for plot in plots},
        plotly=Markup(get_plotlyjs()) if plots else "",  # noqa: S704
        style=_own("report.css"),
        scripts=[_own(name) for name in (*scripts, "tables.js")],
        research_use_only=RESEARCH_USE_ONLY,
        **content,
    )


def number(value: float | None, digits: int = 3) -> str:
    """Return a number as text, "undefined" for None; what rounds to zero has no sign."""
    return "undefined" if value is None else f"{value:z.{digits}f}"


def percent(value: float | None) -> str:
    """Return a fraction in percent, "undefined" for None."""
    return "undefined" if value is None else f"{value:.1%}"


def interval(value: Interval | None, digits: int = 3) -> str:
    """Return the bounds of an interval as text, empty if there are none."""
    if value is None or value.low is None or value.high is None:
        return ""
    return f"{value.low:z.{digits}f} to {value.high:z.{digits}f}"


def no_interval(value: Interval, num_resamples: int) -> str:
    """Return why a value has no interval.

    Example:
        >>> no_interval(Interval(0.8, None, None, num_undefined=700), 1000)
        'no interval: 700 of 1,000 resamples do not define it'
    """
    if value.num_undefined > num_resamples / 2:
        return f"no interval: {value.num_undefined:,} of {num_resamples:,} resamples do not define it"
    return "no interval: the resamples are equal"


def _own(name: str) -> Markup:
    """Return a file of this library that is inlined without escaping."""
    return Markup((TEMPLATES / name).read_text(encoding="utf-8"))  # noqa: S704
