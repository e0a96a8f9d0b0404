"""How training went: every logged metric by epoch, from Lightning's CSV."""

import numpy as np
import pandas as pd

from milpath.reports.figures import sentence
from milpath.reports.plot_style import Plot, add_line, new_figure

# Few enough to look at; the CSV has all.
SHOWN = ("loss", "auroc", "quadratic_kappa", "balanced_accuracy", "attention_entropy")


def training_plots(history: pd.DataFrame) -> list[Plot]:
    """Return a plot for each metric that was logged, training and validation together.

    Args:
        history: `logs/csv/metrics.csv` with columns `epoch`, `step`, `train/loss`, `val/loss`, ...; rows of one epoch are
            brought together.
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
                # A line through one point is no line.
                figure.data[-1].mode = "markers"
            words.append(f"{name} {values.iloc[0]:.3g} at the start, {values.iloc[-1]:.3g} at the end")
        figure.update_layout(height=280, showlegend=True)
        plots.append(Plot(f"training-{metric}", title[0].upper() + title[1:], sentence("; ".join(words)), figure))
    return plots
