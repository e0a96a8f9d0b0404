import numpy as np
import pandas as pd
import pytest
from sklearn.metrics import roc_curve

from milpath.metrics.weighted_metrics import METRICS
from milpath.reports.plots.figures import (
    confusion_plot,
    histogram_plot,
    precision_recall_plot,
    risk_coverage_plot,
    roc_plot,
    training_plots,
)
from milpath.reports.plots.plot_style import DASHES, MAX_POINTS
from milpath.targets.evaluation import evaluate_bags

NAMES = ["benign", "malignant"]


def test_the_roc_curve_is_that_of_scikit_learn_and_its_name_holds_the_area(binary):
    plot = roc_plot({"test": binary}, NAMES)
    x, y, _ = roc_curve(binary.labels, binary.probabilities[:, 1])
    assert plot.figure.data[0].x == pytest.approx(x, abs=1e-5)
    assert plot.figure.data[0].y == pytest.approx(y, abs=1e-5)
    assert f"{float(METRICS['auroc'](binary)):.3f}" in plot.figure.data[0].name
    assert plot.words.startswith("Test: area under the curve")


def test_each_class_has_a_curve_against_the_rest_with_a_dash_of_its_own(ordinal):
    names = [f"ISUP {number}" for number in range(6)]
    plot = roc_plot({"test": ordinal, "val": ordinal}, names)
    curves = [trace for trace in plot.figure.data if trace.name.startswith("ISUP")]
    assert len(curves) == 6
    assert [curve.line.dash for curve in curves] == list(DASHES)
    assert len({curve.line.color for curve in curves}) == 6
    assert plot.words.startswith("ISUP 0:")


def test_long_curves_are_thinned_and_keep_their_ends():
    generator = np.random.default_rng(0)
    labels, positive = generator.integers(2, size=20_000), generator.random(20_000)
    outcomes = evaluate_bags(labels, np.stack([1 - positive, positive], 1), "binary")
    trace = precision_recall_plot({"test": outcomes}, NAMES).figure.data[0]
    assert len(trace.x) <= MAX_POINTS
    assert (trace.x[0], trace.x[-1]) == (1.0, 0.0)


def test_one_class_alone_has_no_curve_and_says_so():
    outcomes = evaluate_bags([1, 1], np.array([[0.4, 0.6], [0.3, 0.7]]), "binary")
    plot = roc_plot({"test": outcomes}, NAMES)
    assert plot.words == "Undefined: the split has bags of one class only."


def test_the_confusion_matrix_counts_bags(nominal):
    plot = confusion_plot(nominal, list("abcd"))
    counts = np.array(plot.figure.data[0].text)
    assert counts.sum() == nominal.num_bags
    assert np.trace(counts) == nominal.correct.sum()
    assert np.array(plot.figure.data[0].z).sum(axis=1) == pytest.approx(1)


def test_the_histogram_holds_every_bag_once(binary, nominal):
    for outcomes, names in ((binary, NAMES), (nominal, list("abcd"))):
        plot = histogram_plot(outcomes, names, threshold=0.4)
        assert [sum(trace.y) for trace in plot.figure.data] == np.bincount(outcomes.labels).tolist()


def test_rows_of_one_epoch_are_brought_together():
    history = pd.DataFrame(
        {"epoch": [0, 0, 0, 1, 1], "step": [1, 2, 2, 3, 4], "train/loss": [0.8, 0.6, np.nan, 0.4, np.nan],
         "val/loss": [np.nan, np.nan, 0.5, np.nan, 0.3], "lr": [1, 1, 1, 1, 1]}
    )  # fmt: skip
    (plot,) = training_plots(history)
    training, validation = plot.figure.data
    assert list(training.y) == [0.7, 0.4]
    assert list(training.x) == list(validation.x) == [1, 2], "the terminal counts epochs from 1"
    assert list(validation.y) == [0.5, 0.3]
    assert plot.words == "Training 0.7 at the start, 0.4 at the end; validation 0.5 at the start, 0.3 at the end."


def test_one_epoch_is_a_point():
    (plot,) = training_plots(pd.DataFrame({"epoch": [0], "val/auroc": [0.9]}))
    assert plot.figure.data[0].mode == "markers"
    assert list(plot.figure.data[0].x) == [1]
    assert tuple(plot.figure.layout.xaxis.range) == (0.5, 1.5), "no epoch 0 on the axis"


def test_an_axis_of_a_share_that_hardly_changes_ends_at_one_and_does_not_magnify_it():
    history = {"epoch": [0, 1, 2], "val/balanced_accuracy": [0.5] * 3, "val/attention_entropy": [0.99999, 1.0, 1.0]}
    constant, even = (
        plot.figure.layout for plot in training_plots(pd.DataFrame(history | {"val/auroc": [0.6, 0.7, 0.9]}))[1:]
    )
    assert tuple(constant.yaxis.range) == pytest.approx((0.45, 0.55))
    assert tuple(even.yaxis.range) == pytest.approx((0.94999, 1.005))
    auroc = training_plots(pd.DataFrame(history | {"val/auroc": [0.6, 0.7, 0.9]}))[0].figure.layout
    assert auroc.yaxis.range is None
    assert auroc.xaxis.dtick == 1, "no half epochs"


def test_a_log_without_epochs_or_metrics_has_no_plot():
    assert training_plots(pd.DataFrame({"step": [1]})) == []
    assert training_plots(pd.DataFrame({"epoch": [0, 1], "train/loss": [np.nan, np.nan]})) == []


def test_ticks_of_rare_errors_do_not_repeat():
    """Plotly formats ticks as d3 does; with whole percents 0, 0.5 and 1 % would read 0 %, 1 %, 1 %."""
    labels = np.arange(400) % 2
    scores = np.where(np.arange(400) < 3, 0.6, 0.1 + 0.8 * labels)
    outcomes = evaluate_bags(labels, np.stack([1 - scores, scores], axis=1), "binary")
    figure = risk_coverage_plot({"test": outcomes}).figure
    for axis in (figure.layout.xaxis, figure.layout.yaxis):
        assert axis.tickformat == ".3~%"


def test_metrics_that_a_target_hides_have_no_curve():
    history = pd.DataFrame({"epoch": [0, 1], "step": [1, 2], "val/loss": [1.0, 0.5], "val/quadratic_kappa": [0.1, 0.2]})
    assert [plot.name for plot in training_plots(history)] == ["training-loss", "training-quadratic_kappa"]
    assert [plot.name for plot in training_plots(history, ("quadratic_kappa",))] == ["training-loss"]
