"""Plots of the logged metrics by epoch, from Lightning's CSV log."""

import numpy as np
import pandas as pd

from milpath.reports.figures import sentence
from milpath.reports.plot_style import Plot, add_line, new_figure

# A selection; the CSV has all logged metrics.
SHOWN = ("loss", "auroc", "quadratic_kappa", "balanced_accuracy", "attention_entropy")


def training_plots(history: pd.DataFrame) -> list[Plot]:
    """Return a plot of each logged metric, with training and validation in the same figure.

    Args:
        history: `logs/csv/metrics.csv` with columns `epoch`, `step`, `train/loss`, `val/loss`, ...; rows of the same epoch
            are averaged.
    """
    if "epoch" not in history:
        return []
    by_epoch = history.apply(pd.to_numeric, errors="coerce").dropna(subset=["epoch"]).groupby("epoch").mean()
    plots = []
    for metric in SHOWN:
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
            epochs = values.index.to_numpy(dtype=np.float64)
            add_line(figure, epochs, values.to_numpy(dtype=np.float64), name, 0 if name == "training" else 1)
            if len(values) == 1:
                # A line with a single point would be invisible.
                figure.data[-1].mode = "markers"
            words.append(f"{name} {values.iloc[0]:.3g} at the start, {values.iloc[-1]:.3g} at the end")
        figure.update_layout(height=280, showlegend=True)
        plots.append(Plot(f"training-{metric}", title[0].upper() + title[1:], sentence("; ".join(words)), figure))
    return plots
