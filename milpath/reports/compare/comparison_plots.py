"""Curves of several runs over one another, for each kind of target."""

from collections.abc import Sequence
from dataclasses import replace

import numpy as np
import plotly.graph_objects as go

from milpath.metrics.deferral import risk_coverage
from milpath.metrics.evaluated_bags import EvaluatedBags
from milpath.metrics.evaluated_numbers import EvaluatedNumbers
from milpath.metrics.survival.evaluated_times import EvaluatedTimes
from milpath.metrics.survival.survival_curves import kaplan_meier
from milpath.reports.compare.compared_runs import Part
from milpath.reports.plots.figures import calibration_plot, precision_recall_curves, roc_curves
from milpath.reports.plots.plot_style import (
    COLOURS,
    MAX_POINTS,
    Plot,
    add_line,
    add_reference,
    new_figure,
    round_off,
)
from milpath.reports.plots.survival_figures import survival_calibration
from milpath.targets import Survival

# Each class has a figure of its own; more of them are left out in words.
MAX_CLASSES = 6


def comparison_plots(part: Part, names: Sequence[str]) -> list[Plot]:
    """Return the plots of one target with a curve of each run.

    Args:
        part: The target.
        names: Name of each run.
    """
    outcomes = part.outcomes
    if not part.bag_ids:
        return []
    if all(isinstance(each, EvaluatedBags) for each in outcomes):
        return _class_plots(part, outcomes, names)
    if all(isinstance(each, EvaluatedNumbers) for each in outcomes):
        return _number_plots(part, outcomes, names)
    if all(isinstance(each, EvaluatedTimes) for each in outcomes):
        return _survival_plots(part, outcomes, names)
    return []


def _class_plots(part: Part, outcomes: Sequence[EvaluatedBags], names: Sequence[str]) -> list[Plot]:
    """Return ROC and precision-recall curves, calibration, and risk against coverage."""
    positive = outcomes[0].positive_class
    chosen = [positive] if positive is not None else list(range(min(len(part.class_names), MAX_CLASSES)))
    plots = []
    for number in chosen:
        truth = outcomes[0].labels == number
        if not truth.any() or truth.all():
            continue
        scores = [each.probabilities[:, number] for each in outcomes]
        of_class = "" if positive is not None else f", {part.class_names[number]} against the rest"
        rankings = [(name, truth, own) for name, own in zip(names, scores, strict=True)]
        figure, words = roc_curves(rankings)
        plots.append(Plot(f"roc-{number}", f"ROC curve{of_class}", _clauses(words), figure))
        if positive is not None:
            figure, words = precision_recall_curves(rankings)
            said = _clauses(words) + f" {truth.mean():.0%} of bags are positive."
            plots.append(Plot("precision-recall", "Precision and recall", said, figure))
    calibration = calibration_plot(dict(zip(names, outcomes, strict=True)))
    plots.append(replace(calibration, words=names[0] + calibration.words[len(names[0]) :]))
    plots.append(_risk_coverage(outcomes, names))
    return plots


def _clauses(words: Sequence[str]) -> str:
    """Return clauses as a sentence that begins with the name of a run, as it is written."""
    return "; ".join(words) + "."


def _risk_coverage(outcomes: Sequence[EvaluatedBags], names: Sequence[str]) -> Plot:
    """Return the error rate among the most confident bags of each run."""
    figure = new_figure("fraction of bags decided by the network", "error rate among them")
    words = []
    for number, (name, each) in enumerate(zip(names, outcomes, strict=True)):
        curve = risk_coverage(each)
        add_line(figure, curve.coverage, curve.risk, f"{name}, area {curve.area:.3f}", number)
        words.append(f"{name}: area under the risk-coverage curve {curve.area:.3f}")
    figure.update_xaxes(range=[0, 1.02], tickformat=".3~%")
    figure.update_yaxes(rangemode="tozero", tickformat=".3~%")
    return Plot("risk-coverage", "Risk and coverage", _clauses(words) + " Lower is better.", figure)


def _number_plots(part: Part, outcomes: Sequence[EvaluatedNumbers], names: Sequence[str]) -> list[Plot]:
    """Return predicted against true numbers, and the share of bags within each error."""
    plots = []
    for place, quantity in enumerate(outcomes[0].names):
        unit = getattr(part.targets[0], "units", ("",))[place]
        said = f" [{unit}]" if unit else ""
        truth = outcomes[0].labels[:, place]
        predicted = [each.answers[:, place] for each in outcomes]
        shown = np.unique(np.linspace(0, len(truth) - 1, min(len(truth), MAX_POINTS)).round().astype(int))
        ends = [float(min(truth.min(), *(each.min() for each in predicted)))]
        ends.append(float(max(truth.max(), *(each.max() for each in predicted))))
        scatter = new_figure(f"true {quantity}{said}", f"predicted {quantity}{said}")
        add_reference(scatter, ends, ends, "equal")
        errors = new_figure(f"absolute error{said}", "share of bags within it")
        words = []
        for number, (name, each) in enumerate(zip(names, predicted, strict=True)):
            marker = {"color": COLOURS[number % len(COLOURS)], "size": 6, "opacity": 0.6, "symbol": number}
            scatter.add_trace(
                go.Scatter(
                    x=round_off(truth[shown]), y=round_off(each[shown]), name=name, mode="markers", marker=marker
                )
            )
            ordered = np.sort(np.abs(each - truth))
            share = np.arange(1, len(ordered) + 1) / len(ordered)
            add_line(errors, np.r_[0.0, ordered], np.r_[0.0, share], name, number, shape="hv")
            words.append(f"{name}: half of the errors are at most {np.median(ordered):.3g}{said}")
        errors.update_yaxes(range=[0, 1.03])
        drawn = "" if len(shown) == len(truth) else f" {len(shown):,} of {len(truth):,} bags are drawn."
        told = f"Each point is a bag; on the dotted line the prediction equals the truth.{drawn}"
        plots.append(Plot(f"scatter-{place}", f"Predicted and true {quantity}", told, scatter))
        plots.append(Plot(f"errors-{place}", f"Errors of {quantity}", _clauses(words), errors))
    return plots


def _survival_plots(part: Part, outcomes: Sequence[EvaluatedTimes], names: Sequence[str]) -> list[Plot]:
    """Return Kaplan-Meier curves of the risk groups of each run, and calibration at the chosen times."""
    unit = getattr(part.targets[0], "unit", "")
    said = f" [{unit}]" if unit else ""
    figure = new_figure(f"time{said}", "share without event")
    words = []
    for number, (name, target, each) in enumerate(zip(names, part.targets, outcomes, strict=True)):
        cut = target.risk_cut if isinstance(target, Survival) else None
        if cut is None:
            words.append(f"{name} has no cut between the groups, because it had no training split")
            continue
        high = each.risk >= cut
        # A colour for each run; within it the group with the higher risk is dashed.
        for group, risk, dash in ((~high, "lower risk", "solid"), (high, "higher risk", "dash")):
            if group.any():
                curve = kaplan_meier(each.time[group], each.event[group])
                line = {"color": COLOURS[number % len(COLOURS)], "dash": dash, "shape": "hv"}
                add_line(figure, np.r_[0.0, curve.times], np.r_[1.0, curve.levels], f"{name}, {risk}", number, **line)
        words.append(f"{name}: {int(high.sum()):,} of {len(high):,} bags have the higher risk")
    figure.update_yaxes(range=[0, 1.03])
    figure.update_xaxes(rangemode="tozero")
    caption = f"Groups are cut at the median risk of each run's training split. {_clauses(words)}"
    plots = [Plot("kaplan-meier", "Survival by predicted risk", caption, figure)]
    if all(each.survival is not None for each in outcomes):
        plots += [_survival_calibration(outcomes, names, place, unit) for place in range(len(outcomes[0].times))]
    return plots


def _survival_calibration(outcomes: Sequence[EvaluatedTimes], names: Sequence[str], place: int, unit: str) -> Plot:
    """Return observed against predicted survival of each run at one time."""
    at = f"{float(outcomes[0].times[place]):.4g} {unit}".strip()
    figure = new_figure(f"predicted share without event up to {at}", "observed share (Kaplan-Meier)")
    add_reference(figure, [0, 1], [0, 1], "perfect")
    for number, (name, each) in enumerate(zip(names, outcomes, strict=True)):
        predicted, observed = survival_calibration(each, place)
        add_line(figure, predicted, observed, name, number)
        figure.data[-1].update(mode="lines+markers", marker={"color": COLOURS[number % len(COLOURS)], "size": 8})
    figure.update_xaxes(range=[-0.03, 1.03])
    figure.update_yaxes(range=[-0.03, 1.05])
    words = f"Bags of each run in groups of equal size by predicted survival up to {at}."
    return Plot(f"survival-calibration-{place}", f"Calibration at {at}", words, figure)
