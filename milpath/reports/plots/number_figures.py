"""Plots of predicted numbers: predicted against true, residuals, and limits of agreement."""

import numpy as np
import plotly.graph_objects as go

from milpath.metrics.evaluated_numbers import EvaluatedNumbers
from milpath.metrics.number_metrics import limits_of_agreement
from milpath.metrics.quantile_metrics import share_at_or_below
from milpath.reports.plots.plot_style import (
    COLOURS,
    FAINT,
    MAX_POINTS,
    Plot,
    add_line,
    add_reference,
    new_figure,
    round_off,
)


def number_plots(outcomes: EvaluatedNumbers, units: tuple[str, ...]) -> list[Plot]:
    """Return three plots for each quantity of a split, and one of its quantiles if they are predicted.

    Args:
        outcomes: Evaluated bags.
        units: Unit of each quantity; empty if unknown.
    """
    plots = []
    for place, name in enumerate(outcomes.names):
        unit = f" [{units[place]}]" if units[place] else ""
        truth, predicted = outcomes.labels[:, place], outcomes.answers[:, place]
        shown = _shown(len(truth))
        plots.append(_scatter(place, name, unit, truth[shown], predicted[shown], len(truth)))
        plots.append(_residuals(place, name, unit, truth[shown], predicted[shown]))
        plots.append(_agreement(place, name, unit, truth, predicted, shown))
        if outcomes.quantiles is not None:
            plots.append(_quantiles(place, name, outcomes))
    return plots


def _scatter(place: int, name: str, unit: str, truth: np.ndarray, predicted: np.ndarray, num_bags: int) -> Plot:
    """Return predicted against true numbers."""
    figure = new_figure(f"true {name}{unit}", f"predicted {name}{unit}")
    low, high = float(min(truth.min(), predicted.min())), float(max(truth.max(), predicted.max()))
    add_reference(figure, [low, high], [low, high], "equal")
    figure.add_trace(_points(truth, predicted))
    drawn = "" if len(truth) == num_bags else f" {len(truth):,} of {num_bags:,} bags are drawn."
    words = f"Each point is a bag; on the dotted line the prediction equals the truth.{drawn}"
    return Plot(f"scatter-{place}", f"Predicted and true {name}", words, figure)


def _residuals(place: int, name: str, unit: str, truth: np.ndarray, predicted: np.ndarray) -> Plot:
    """Return residuals against predictions: a trend shows that predictions can be corrected."""
    figure = new_figure(f"predicted {name}{unit}", f"predicted minus true{unit}")
    figure.add_hline(y=0, line={"color": "#9aa5b1", "width": 1, "dash": "dot"})
    figure.add_trace(_points(predicted, predicted - truth))
    words = "Residuals by prediction: a trend or a funnel means that errors depend on the prediction."
    return Plot(f"residuals-{place}", f"Residuals of {name}", words, figure)


def _agreement(place: int, name: str, unit: str, truth: np.ndarray, predicted: np.ndarray, shown: np.ndarray) -> Plot:
    """Return differences against means with the limits of agreement of all bags."""
    bias, low, high = limits_of_agreement(truth, predicted)
    figure = new_figure(f"mean of predicted and true {name}{unit}", f"predicted minus true{unit}")
    for value, dash in ((low, "dash"), (bias, "solid"), (high, "dash")):
        figure.add_hline(y=value, line={"color": FAINT, "width": 1.5, "dash": dash})
    figure.add_trace(_points((predicted[shown] + truth[shown]) / 2, predicted[shown] - truth[shown]))
    words = (
        f"Bias {bias:.3g}{unit} (solid line); 95% limits of agreement {low:.3g} to {high:.3g}{unit} (dashed lines), "
        "for differences with a normal distribution."
    )
    return Plot(f"agreement-{place}", f"Agreement of {name}", words, figure)


def _quantiles(place: int, name: str, outcomes: EvaluatedNumbers) -> Plot:
    """Return the share of bags at or below each quantile against its level."""
    levels, shares = np.asarray(outcomes.levels), share_at_or_below(outcomes, place)
    figure = new_figure("level of the quantile", "share of bags at or below it")
    add_reference(figure, [0, 1], [0, 1], "expected")
    add_line(figure, levels, shares, "measured")
    figure.update_traces(mode="lines+markers", selector={"name": "measured"})
    measured = ", ".join(f"{share:.0%} at or below {level:g}" for level, share in zip(levels, shares, strict=True))
    words = f"Calibrated quantiles lie on the dotted line. Measured: {measured}."
    return Plot(f"quantiles-{place}", f"Quantiles of {name}", words, figure)


def _points(x: np.ndarray, y: np.ndarray) -> go.Scatter:
    """Return bags as points."""
    marker = {"color": COLOURS[0], "size": 6, "opacity": 0.65}
    return go.Scatter(x=round_off(x), y=round_off(y), mode="markers", marker=marker, showlegend=False)


def _shown(num_bags: int) -> np.ndarray:
    """Return the bags that are drawn: all, or an even draw of as many as can be told apart."""
    limit = 5 * MAX_POINTS
    return np.arange(num_bags) if num_bags <= limit else np.linspace(0, num_bags - 1, limit).round().astype(int)
