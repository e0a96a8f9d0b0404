"""The page of a comparison of several runs, and its tables as files."""

import csv
import io
import os
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any
from urllib.parse import quote

import numpy as np

from milpath.metrics.comparison import PairedMetric, paired_metrics
from milpath.metrics.intervals import Interval
from milpath.records.atomic_files import write_json, write_text
from milpath.records.error_text import counted
from milpath.reports.cases import case_anchor
from milpath.reports.compare.compared_runs import ComparedRun, ComparedRuns
from milpath.reports.compare.comparison_plots import MAX_CLASSES, comparison_plots
from milpath.reports.compare.disagreements import Disagreements, disagreements_of
from milpath.reports.headline import metric_title
from milpath.reports.plots.figures import SPLIT_NAMES
from milpath.reports.plots.plot_style import Plot
from milpath.reports.rendering import render
from milpath.targets import ClassTarget

RECORD = "comparison.json"
PAIRED = (
    "A difference is that of two networks on the same resamples of the same bags. If its interval does not contain 0, the "
    "networks differ on bags like these; it does not say that one method is better, because another training of the same "
    "method would give another network: milpath table compares methods. Intervals are not adjusted for the number of "
    "metrics and runs."
)


@dataclass(frozen=True)
class Section:
    """The part of the page about one target.

    Attributes:
        number: Position, from 0.
        name: Name of the target; empty if it is the only one.
        metrics: Its metrics.
        plots: Its curves.
        disagreements: Its cases; `None` if predictions cannot be compared one by one.
    """

    number: int
    name: str
    metrics: list[PairedMetric]
    plots: list[Plot]
    disagreements: Disagreements | None


@dataclass(frozen=True)
class Comparison:
    """A comparison of runs.

    Attributes:
        runs: The runs.
        sections: Results of each target.
        notes: What a reader has to know, one sentence each.
        num_resamples: Bootstrap resamples of each interval.
    """

    runs: ComparedRuns
    sections: list[Section]
    notes: list[str]
    num_resamples: int

    @property
    def num_groups(self) -> int:
        """Number of groups of bags, such as patients; 0 if bags are independent."""
        return 0 if self.runs.groups is None else len(np.unique(self.runs.groups))


def compare_runs(compared: ComparedRuns, num_resamples: int = 1000, seed: int = 0) -> Comparison:
    """Return metrics, curves and disagreements of runs.

    Args:
        compared: The runs.
        num_resamples: Bootstrap resamples of each interval.
        seed: Seed of the resamples.
    """
    names, left_out = _metric_names(compared.runs)
    order = {name: place for place, name in enumerate(compared.target.headline)}
    names.sort(key=lambda name: order.get(name, len(order)))
    rows = paired_metrics([run.outcomes for run in compared.runs], names, num_resamples, seed)
    sections = []
    for number, part in enumerate(compared.parts):
        prefix = f"{part.name}/" if part.name else ""
        own = [row for row in rows if row.name.startswith(prefix)] if prefix else rows
        plots = [replace(plot, name=f"{number}-{plot.name}") for plot in comparison_plots(part, compared.names)]
        sections.append(Section(number, part.name, own, plots, disagreements_of(part, compared.names)))
    notes = list(compared.notes)
    shown = {row.name for section in sections for row in section.metrics}
    if over_all := [row for row in rows if row.name not in shown]:
        sections.insert(0, Section(len(sections), "", over_all, [], None))
    if left_out:
        notes.append(f"Only some of the runs have {', '.join(map(metric_title, left_out))}; these are not compared.")
    if any(isinstance(part.targets[0], ClassTarget) and len(part.class_names) > MAX_CLASSES for part in compared.parts):
        notes.append(f"ROC curves are drawn of the first {MAX_CLASSES} classes.")
    return Comparison(compared, sections, notes, num_resamples)


def write_comparison(comparison: Comparison, folder: Path, title: str | None = None) -> Path:
    """Write `report.html`, `metrics.csv`, `disagreements.csv` and `comparison.json` of a comparison.

    Args:
        comparison: From `compare_runs`.
        folder: Output folder, created if missing.
        title: Heading; `None` names the runs.

    Returns:
        The path of the page.
    """
    compared, sections = comparison.runs, comparison.sections
    folder.mkdir(parents=True, exist_ok=True)
    page = render(
        "compare.html.j2",
        [plot for section in sections for plot in section.plots],
        ("plots.js",),
        title=title or f"Comparison of {', '.join(compared.names)}",
        warning=compared.warning,
        compared=compared,
        comparison=comparison,
        split_name=SPLIT_NAMES.get(compared.split, compared.split),
        sections=sections,
        paired=PAIRED,
        links=[_report_link(run, folder) for run in compared.runs],
        run_folders=[_relative_link(run.folder.path, folder) for run in compared.runs],
        anchor=case_anchor,
        metric_title=lambda name: metric_title(name.rpartition("/")[2]),
    )
    write_text(folder / "metrics.csv", _metrics_csv(sections, compared.names))
    write_text(folder / "disagreements.csv", _disagreements_csv(sections, compared.names))
    record = {
        "runs": [{"name": run.name, "folder": str(run.folder.path.resolve())} for run in compared.runs],
        "split": compared.split,
        "task": compared.target.name,
        "num_bags": len(compared.bag_ids),
        "num_groups": comparison.num_groups or None,
        "num_resamples": comparison.num_resamples,
        "notes": comparison.notes,
        "warning": compared.warning,
    }
    write_json(folder / RECORD, record)
    write_text(folder / "report.html", page)
    return folder / "report.html"


def summary_lines(comparison: Comparison) -> list[str]:
    """Return the comparison in a few lines for a terminal: bags, then each headline metric of each run."""
    compared, headline = comparison.runs, comparison.runs.target.headline
    groups = f" of {counted(comparison.num_groups, 'group')}" if comparison.num_groups else ""
    lines = [f"{counted(len(compared.bag_ids), compared.split + ' bag')}{groups}; differences from {compared.names[0]}"]
    for row in (row for section in comparison.sections for row in section.metrics if row.name in headline):
        each = []
        for name, value, difference in zip(compared.names, row.intervals, row.differences, strict=True):
            changed = "" if difference is None else f" ({difference_in_words(difference)})"
            each.append(f"{name} {'undefined' if value.value is None else f'{value.value:.3f}'}{changed}")
        lines.append(f"{metric_title(row.name)}: {', '.join(each)}")
    return lines


def difference_in_words(difference: Interval) -> str:
    """Return a difference with its sign and interval.

    Example:
        >>> difference_in_words(Interval(0.02, -0.011, 0.05))
        '+0.020, 95% interval -0.011 to +0.050'
    """
    if difference.value is None:
        return "undefined"
    if difference.low is None or difference.high is None:
        return f"{difference.value:+.3f}, no interval"
    return f"{difference.value:+.3f}, 95% interval {difference.low:+.3f} to {difference.high:+.3f}"


def _report_link(run: ComparedRun, folder: Path) -> str:
    """Return the link to the report of a run; empty if it has none."""
    report = run.folder.path / "report.html"
    return quote(_relative_link(report, folder)) if report.is_file() else ""


def _metrics_csv(sections: Sequence[Section], names: Sequence[str]) -> str:
    """Return every metric of every run with full precision; a missing number is an empty field."""
    rows = []
    for row in (row for section in sections for row in section.metrics):
        for name, value, difference in zip(names, row.intervals, row.differences, strict=True):
            change = Interval(None, None, None) if difference is None else difference
            ends = (value.value, value.low, value.high, change.value, change.low, change.high)
            rows.append([row.name, name, *("" if end is None else f"{end:.9g}" for end in ends)])
    head = ["metric", "run", "value", "low", "high", "difference", "difference_low", "difference_high"]
    return _csv([head, *rows])


def _disagreements_csv(sections: Sequence[Section], names: Sequence[str]) -> str:
    """Return the cases on which runs disagree."""
    rows: list[list[Any]] = []
    for section in sections:
        for case in section.disagreements.cases if section.disagreements else ():
            answers = [answer.words for answer in case.answers]
            rows.append([section.name, case.bag_id, case.label, *answers, f"{case.spread:.6g}"])
    return _csv([["target", "id", "label", *names, "spread"], *rows])


def _csv(rows: Sequence[Sequence[Any]]) -> str:
    file = io.StringIO()
    csv.writer(file, lineterminator="\n").writerows(rows)
    return file.getvalue()


def _relative_link(target: Path, folder: Path) -> str:
    """Return the relative path from a folder to a file, with slashes on every system."""
    return Path(os.path.relpath(target.resolve(), folder.resolve())).as_posix()


def _metric_names(runs: Iterable[ComparedRun]) -> tuple[list[str], list[str]]:
    """Return the metrics that all runs have, and those that only some have."""
    each = [[name for name in run.target.reported_metrics if name not in run.target.hidden_metrics] for run in runs]
    shared = [name for name in each[0] if all(name in other for other in each)]
    return shared, sorted({name for names in each for name in names} - set(shared))
