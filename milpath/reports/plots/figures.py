"""Plots of a report: discrimination, calibration, risk against coverage, and the logged metrics by epoch."""

from collections.abc import Iterable, Mapping, Sequence

import numpy as np
import pandas as pd
import plotly.graph_objects as go
from numpy.typing import NDArray
from sklearn.metrics import precision_recall_curve, roc_curve

from milpath.metrics.calibration import reliability_curve
from milpath.metrics.deferral import risk_coverage
from milpath.metrics.evaluated_bags import EvaluatedBags
from milpath.metrics.ranking import auroc, average_precision
from milpath.metrics.weighted_metrics import confusion, expected_calibration_error
from milpath.reports.plots.plot_style import (
    COLOURS,
    DASHES,
    FAINT,
    Plot,
    add_line,
    add_reference,
    new_figure,
    round_off,
)

SPLIT_NAMES = {"train": "training", "val": "validation", "test": "test"}


# A selection; the CSV has all logged metrics.
SHOWN = ("loss", "auroc", "quadratic_kappa", "balanced_accuracy", "attention_entropy")


# Name of a curve, which bags are positive, `(bags,)` bool, and their scores, `(bags,)`.
Ranking = tuple[str, NDArray[np.bool_], NDArray[np.float64]]


def roc_curves(rankings: Iterable[Ranking]) -> tuple[go.Figure, list[str]]:
    """Return the figure of some ROC curves, and a clause on each."""
    figure = new_figure("1 - specificity", "sensitivity")
    words = []
    for number, (name, positive, scores) in enumerate(rankings):
        area = float(auroc(positive, scores))
        false_alarms, found, _ = roc_curve(positive, scores)
        add_line(figure, false_alarms, found, f"{name} {area:.3f}", number)
        words.append(f"{name}: area under the curve {area:.3f}")
    add_reference(figure, [0, 1], [0, 1], "chance")
    figure.update_xaxes(range=[-0.02, 1.02])
    figure.update_yaxes(range=[-0.02, 1.02])
    return figure, words


def precision_recall_curves(rankings: Iterable[Ranking]) -> tuple[go.Figure, list[str]]:
    """Return the figure of some precision-recall curves, and a clause on each."""
    figure = new_figure("recall (sensitivity)", "precision")
    words = []
    for number, (name, positive, scores) in enumerate(rankings):
        area = float(average_precision(positive, scores))
        precision, recall, _ = precision_recall_curve(positive, scores)
        # Average precision is a sum of steps; linear interpolation would overstate the area.
        add_line(figure, recall, precision, f"{name} {area:.3f}", number, shape="hv")
        words.append(f"{name}: average precision {area:.3f}")
    figure.update_xaxes(range=[-0.02, 1.02])
    figure.update_yaxes(range=[-0.02, 1.05])
    return figure, words


def roc_plot(outcomes: Mapping[str, EvaluatedBags], class_names: Sequence[str]) -> Plot:
    """Return the ROC curve of each split for a binary task, otherwise of each class against the rest on the first split."""
    figure, words = roc_curves(_rankings(outcomes, class_names))
    return Plot("roc", "ROC curve", _sentence(words), figure)


def precision_recall_plot(outcomes: Mapping[str, EvaluatedBags], class_names: Sequence[str]) -> Plot:
    """Return the precision-recall curve of each split for a binary task, otherwise of each class against the rest."""
    rankings = list(_rankings(outcomes, class_names))
    figure, words = precision_recall_curves(rankings)
    said = [
        f"{clause} where {positive.mean():.0%} of bags are positive"
        for clause, (_, positive, _) in zip(words, rankings, strict=True)
    ]
    return Plot("precision-recall", "Precision and recall", _sentence(said), figure)


def confusion_plot(outcomes: EvaluatedBags, class_names: Sequence[str]) -> Plot:
    """Return the confusion matrix, shaded by the fraction of the true class."""
    counts = confusion(outcomes).astype(int)
    totals = counts.sum(axis=1, keepdims=True)
    share = np.divide(counts, totals, out=np.zeros(counts.shape), where=totals > 0)
    names = list(class_names)
    figure = new_figure("predicted", "true")
    figure.add_trace(
        go.Heatmap(
            z=[round_off(row) for row in share],
            x=names,
            y=names,
            text=counts.tolist(),
            texttemplate="%{text}",
            hovertemplate="true %{y}, predicted %{x}<br>%{text} bags, %{z:.0%} of the true class<extra></extra>",
            colorscale=[[0, "#f5f7fa"], [1, "#08519c"]],
            zmin=0,
            zmax=1,
            showscale=False,
            xgap=2,
            ygap=2,
        )
    )
    figure.update_xaxes(type="category", showgrid=False)
    figure.update_yaxes(type="category", autorange="reversed", showgrid=False)
    right = int(np.trace(counts))
    words = f"{right:,} of {counts.sum():,} bags are classified correctly. Shading is the fraction of each true class."
    return Plot("confusion", "Confusion matrix", words, figure)


def histogram_plot(outcomes: EvaluatedBags, class_names: Sequence[str], threshold: float = 0.5) -> Plot:
    """Return a histogram per true class of the probability of class 1 (binary) or of the true class."""
    binary = outcomes.positive_class is not None
    rows = np.arange(outcomes.num_bags)
    scores = outcomes.probabilities[:, 1] if binary else outcomes.probabilities[rows, outcomes.labels]
    figure = new_figure(f"probability of {class_names[1]}" if binary else "probability of the true class", "bags")
    edges = np.linspace(0, 1, 21)
    for number, name in enumerate(class_names):
        counts, _ = np.histogram(scores[outcomes.labels == number], edges)
        # Plotly has six patterns besides the plain one; they distinguish the classes in greyscale print.
        pattern = {"shape": ("", "/", ".", "x", "-", "\\", "+")[number % 7], "size": 6, "solidity": 0.35}
        marker = {"color": COLOURS[number % len(COLOURS)], "pattern": pattern}
        middles = round_off((edges[1:] + edges[:-1]) / 2)
        figure.add_trace(go.Bar(x=middles, y=counts.tolist(), name=name, marker=marker, width=0.048, opacity=0.75))
    figure.update_layout(barmode="overlay" if binary else "stack", legend={"traceorder": "normal"})
    figure.update_xaxes(range=[0, 1])
    words = "Confidence of the network for bags of each class."
    if binary:
        figure.add_vline(x=threshold, line={"color": FAINT, "width": 1.5, "dash": "dash"})
        words = f"Bags to the right of the dashed line ({threshold:.3g}) are predicted {class_names[1]}."
    return Plot("histogram", "Scores", words, figure)


def _rankings(
    outcomes: Mapping[str, EvaluatedBags], class_names: Sequence[str]
) -> list[tuple[str, np.ndarray, np.ndarray]]:
    """Return name, binary labels and scores of each defined curve."""
    first = next(iter(outcomes.values()))
    if first.positive_class is not None:
        curves = [
            (SPLIT_NAMES.get(split, split), each.labels == 1, each.probabilities[:, 1])
            for split, each in outcomes.items()
        ]
    else:
        curves = [
            (name, first.labels == number, first.probabilities[:, number]) for number, name in enumerate(class_names)
        ]
    return [curve for curve in curves if curve[1].any() and not curve[1].all()]


def sentence(words: str) -> str:
    """Return words as a sentence, capitalizing only the first letter."""
    return words[:1].upper() + words[1:] + "."


def _sentence(words: Sequence[str]) -> str:
    """Return clauses as a sentence."""
    return sentence("; ".join(words)) if words else "Undefined: the split has bags of one class only."


def calibration_plot(curves: Mapping[str, EvaluatedBags]) -> Plot:
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
                line={"color": COLOURS[number % len(COLOURS)], "dash": DASHES[number % len(DASHES)], "width": 1.5},
                marker={
                    "size": round_off(size),
                    "color": COLOURS[number % len(COLOURS)],
                    "symbol": ("circle", "diamond")[number % 2],
                },
            )
        )
        words.append(f"{name}: expected calibration error {error:.3f}")
    figure.update_xaxes(range=[-0.03, 1.03])
    figure.update_yaxes(range=[-0.03, 1.05])
    return Plot(
        "calibration", "Calibration", sentence("; ".join(words)) + " Larger points represent more bags.", figure
    )


def risk_coverage_plot(outcomes: Mapping[str, EvaluatedBags]) -> Plot:
    """Return the error rate among the most confident bags against their fraction, for each split."""
    figure = new_figure("fraction of bags decided by the network", "error rate among them")
    words = []
    for number, (split, each) in enumerate(outcomes.items()):
        curve = risk_coverage(each)
        name = SPLIT_NAMES.get(split, split)
        add_line(figure, curve.coverage, curve.risk, f"{name}, area {curve.area:.3f}", number)
        words.append(f"{name}: area under the risk-coverage curve {curve.area:.3f}, lower is better")
    # With as many digits as neighbouring ticks need: whole percents would repeat where errors are rare.
    figure.update_xaxes(range=[0, 1.02], tickformat=".3~%")
    figure.update_yaxes(rangemode="tozero", tickformat=".3~%")
    return Plot("risk-coverage", "Risk and coverage", sentence("; ".join(words)), figure)


def training_plots(history: pd.DataFrame, hidden: Sequence[str] = ()) -> list[Plot]:
    """Return a plot of each logged metric, with training and validation in the same figure.

    Args:
        history: `logs/csv/metrics.csv` with columns `epoch`, `step`, `train/loss`, `val/loss`, ...; rows of the same epoch
            are averaged. Epochs are logged from 0 and shown from 1, as on the terminal.
        hidden: Metrics that are not shown for the target of the run.
    """
    if "epoch" not in history:
        return []
    by_epoch = history.apply(pd.to_numeric, errors="coerce").dropna(subset=["epoch"]).groupby("epoch").mean()
    plots = []
    for metric in (name for name in SHOWN if name not in hidden):
        columns = [
            name for name in (f"train/{metric}", f"val/{metric}") if name in by_epoch and by_epoch[name].notna().any()
        ]
        if not columns:
            continue
        title = metric.replace("_", " ").replace("auroc", "AUROC")
        figure = new_figure("epoch", title)
        words = []
        for column in columns:
            values = by_epoch[column].dropna()
            name = "training" if column.startswith("train/") else "validation"
            epochs = values.index.to_numpy(dtype=np.float64) + 1
            add_line(figure, epochs, values.to_numpy(dtype=np.float64), name, 0 if name == "training" else 1)
            if len(values) == 1:
                # A line with a single point would be invisible.
                figure.data[-1].mode = "markers"
            words.append(f"{name} {values.iloc[0]:.3g} at the start, {values.iloc[-1]:.3g} at the end")
        figure.update_layout(height=280, showlegend=True)
        shown = by_epoch[columns].to_numpy(dtype=np.float64)
        if len(by_epoch) <= 10:
            figure.update_xaxes(dtick=1)
        if len(by_epoch) == 1:
            # Plotly would draw a whole epoch on either side, from 0.
            only = float(by_epoch.index[0]) + 1
            figure.update_xaxes(range=[only - 0.5, only + 0.5])
        low, high = float(np.nanmin(shown)), float(np.nanmax(shown))
        if metric != "loss" and high - low < 0.02:
            # Plotly would magnify the last digits of a share that hardly changes, and draw a constant one from -0.5 to 1.5.
            figure.update_yaxes(range=[low - 0.05, min(high + 0.05, 1.005)])
        plots.append(Plot(f"training-{metric}", title[0].upper() + title[1:], sentence("; ".join(words)), figure))
    return plots
