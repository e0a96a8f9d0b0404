"""Plots of discrimination: ROC, precision-recall, confusion matrix, histogram of scores."""

from collections.abc import Mapping, Sequence

import numpy as np
import plotly.graph_objects as go
from sklearn.metrics import precision_recall_curve, roc_curve

from milpath.metrics.evaluated_bags import Outcomes
from milpath.metrics.ranking import auroc, average_precision
from milpath.metrics.weighted_metrics import confusion
from milpath.reports.plot_style import COLOURS, FAINT, Plot, add_line, add_reference, new_figure, round_off

SPLIT_NAMES = {"train": "training", "val": "validation", "test": "test"}


def roc_plot(outcomes: Mapping[str, Outcomes], class_names: Sequence[str]) -> Plot:
    """Return the ROC curve of each split for a binary task, otherwise of each class against the rest on the first split."""
    figure = new_figure("1 - specificity", "sensitivity")
    words = []
    for number, (name, positive, scores) in enumerate(_rankings(outcomes, class_names)):
        area = float(auroc(positive, scores))
        false_alarms, found, _ = roc_curve(positive, scores)
        add_line(figure, false_alarms, found, f"{name} {area:.3f}", number)
        words.append(f"{name}: area under the curve {area:.3f}")
    add_reference(figure, [0, 1], [0, 1], "chance")
    figure.update_xaxes(range=[-0.02, 1.02])
    figure.update_yaxes(range=[-0.02, 1.02])
    return Plot("roc", "ROC curve", _sentence(words), figure)


def precision_recall_plot(outcomes: Mapping[str, Outcomes], class_names: Sequence[str]) -> Plot:
    """Return the precision-recall curve of each split for a binary task, otherwise of each class against the rest."""
    figure = new_figure("recall (sensitivity)", "precision")
    words = []
    for number, (name, positive, scores) in enumerate(_rankings(outcomes, class_names)):
        area = float(average_precision(positive, scores))
        precision, recall, _ = precision_recall_curve(positive, scores)
        # Average precision is a sum of steps; linear interpolation would overstate the area.
        add_line(figure, recall, precision, f"{name} {area:.3f}", number, shape="hv")
        words.append(f"{name}: average precision {area:.3f} where {positive.mean():.0%} of bags are positive")
    figure.update_xaxes(range=[-0.02, 1.02])
    figure.update_yaxes(range=[-0.02, 1.05])
    return Plot("precision-recall", "Precision and recall", _sentence(words), figure)


def confusion_plot(outcomes: Outcomes, class_names: Sequence[str]) -> Plot:
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


def histogram_plot(outcomes: Outcomes, class_names: Sequence[str], threshold: float = 0.5) -> Plot:
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


def _rankings(outcomes: Mapping[str, Outcomes], class_names: Sequence[str]) -> list[tuple[str, np.ndarray, np.ndarray]]:
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
