"""Plots of calibration and of risk against coverage."""

from collections.abc import Mapping

import numpy as np
import plotly.graph_objects as go

from milpath.metrics.calibration import reliability_curve
from milpath.metrics.deferral import risk_coverage
from milpath.metrics.evaluated_bags import Outcomes
from milpath.metrics.weighted_metrics import expected_calibration_error
from milpath.reports.figures import SPLIT_NAMES, sentence
from milpath.reports.plot_style import COLOURS, DASHES, Plot, add_line, add_reference, new_figure, round_off


def calibration_plot(curves: Mapping[str, Outcomes]) -> Plot:
    """Return the reliability curves of a split.

    Args:
        curves: Name ("as trained", "temperature 1.3") to outcomes; the size of a point shows the number of bags in its bin.
    """
    binary = next(iter(curves.values())).positive_class is not None
    figure = new_figure(
        "predicted probability", "observed fraction" if binary else "fraction of bags classified correctly"
    )
    add_reference(figure, [0, 1], [0, 1], "perfect")
    words = []
    for number, (name, outcomes) in enumerate(curves.items()):
        curve = reliability_curve(outcomes, num_bins=10)
        size = 5 + 13 * np.sqrt(curve.count / curve.count.max())
        error = float(expected_calibration_error(outcomes))
        figure.add_trace(
            go.Scatter(
                x=round_off(curve.claimed),
                y=round_off(curve.happened),
                text=[f"{count} bags" for count in curve.count],
                name=f"{name}, ECE {error:.3f}",
                mode="lines+markers",
                line={"color": COLOURS[number], "dash": DASHES[number], "width": 1.5},
                marker={"size": round_off(size), "color": COLOURS[number], "symbol": ("circle", "diamond")[number % 2]},
            )
        )
        words.append(f"{name}: expected calibration error {error:.3f}")
    figure.update_xaxes(range=[-0.03, 1.03])
    figure.update_yaxes(range=[-0.03, 1.05])
    return Plot(
        "calibration", "Calibration", sentence("; ".join(words)) + " Larger points represent more bags.", figure
    )


def risk_coverage_plot(outcomes: Mapping[str, Outcomes]) -> Plot:
    """Return the error rate among the most confident bags against their fraction, for each split."""
    figure = new_figure("fraction of bags decided by the network", "error rate among them")
    words = []
    for number, (split, each) in enumerate(outcomes.items()):
        curve = risk_coverage(each)
        name = SPLIT_NAMES.get(split, split)
        add_line(figure, curve.coverage, curve.risk, f"{name}, area {curve.area:.3f}", number)
        words.append(f"{name}: area under the risk-coverage curve {curve.area:.3f}, lower is better")
    figure.update_xaxes(range=[0, 1.02], tickformat=".0%")
    figure.update_yaxes(rangemode="tozero", tickformat=".0%")
    return Plot("risk-coverage", "Risk and coverage", sentence("; ".join(words)), figure)
