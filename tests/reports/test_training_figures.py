import numpy as np
import pandas as pd

from milpath.reports.training_figures import training_plots


def test_rows_of_one_epoch_are_brought_together():
    history = pd.DataFrame(
        {"epoch": [0, 0, 0, 1, 1], "step": [1, 2, 2, 3, 4], "train/loss": [0.8, 0.6, np.nan, 0.4, np.nan],
         "val/loss": [np.nan, np.nan, 0.5, np.nan, 0.3], "lr": [1, 1, 1, 1, 1]}
    )  # fmt: skip
    (plot,) = training_plots(history)
    training, validation = plot.figure.data
    assert list(training.y) == [0.7, 0.4]
    assert list(validation.y) == [0.5, 0.3]
    assert plot.words == "Training 0.7 at the start, 0.4 at the end; validation 0.5 at the start, 0.3 at the end."


def test_one_epoch_is_a_point():
    (plot,) = training_plots(pd.DataFrame({"epoch": [0], "val/auroc": [0.9]}))
    assert plot.figure.data[0].mode == "markers"


def test_a_log_without_epochs_or_metrics_has_no_plot():
    assert training_plots(pd.DataFrame({"step": [1]})) == []
    assert training_plots(pd.DataFrame({"epoch": [0, 1], "train/loss": [np.nan, np.nan]})) == []
