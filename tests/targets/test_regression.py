import numpy as np
import pandas as pd
import pytest
import torch
from scipy import stats
from sklearn.metrics import mean_absolute_error, r2_score, root_mean_squared_error

from milpath.metrics.number_metrics import NUMBER_METRICS, limits_of_agreement, metric_of_quantity
from milpath.targets import Regression
from milpath.targets.columns.label_columns import bag_numbers

DRAW = np.random.default_rng(0)
# With ties, so that ranks are shared.
TRUTH = DRAW.normal(60, 10, 80).round(0)
PREDICTED = (TRUTH + DRAW.normal(2, 8, 80)).round(0)


def outcomes(truth=TRUTH, predicted=PREDICTED):
    return Regression(["age"]).evaluate(truth[:, None], predicted[:, None])


@pytest.mark.parametrize(
    ("name", "reference"),
    [
        ("mae", mean_absolute_error),
        ("rmse", root_mean_squared_error),
        ("r2", r2_score),
        ("pearson", lambda truth, predicted: stats.pearsonr(truth, predicted)[0]),
        ("spearman", lambda truth, predicted: stats.spearmanr(truth, predicted)[0]),
    ],
)
def test_metrics_equal_scikit_learn_and_scipy_on_every_resample(name, reference):
    metric = NUMBER_METRICS[name]
    assert float(metric(outcomes())) == pytest.approx(reference(TRUTH, PREDICTED), abs=1e-12)
    weights = np.random.default_rng(1).multinomial(80, np.full(80, 1 / 80), size=5).astype(float)
    for row, value in zip(weights, metric(outcomes(), weights), strict=True):
        drawn = np.repeat(np.arange(80), row.astype(int))
        assert value == pytest.approx(reference(TRUTH[drawn], PREDICTED[drawn]), abs=1e-12)


def test_correlations_of_a_constant_are_undefined_and_never_nan():
    values = Regression(["age"]).metrics(outcomes(predicted=np.full(80, 0.1)))
    assert values["pearson"] is None
    assert values["spearman"] is None
    assert values["mae"] is not None
    values = Regression(["age"]).metrics(outcomes(truth=np.full(80, 0.1)))
    assert values["r2"] is None


def test_several_columns_have_means_of_metrics_without_a_unit_and_all_of_each():
    target = Regression(["age", "psa"])
    labels = np.stack([TRUTH, TRUTH / 10], axis=1)
    answers = np.stack([PREDICTED, TRUTH / 10], axis=1)
    values = target.metrics(target.evaluate(labels, answers))
    assert values["r2"] == pytest.approx((r2_score(TRUTH, PREDICTED) + 1) / 2)
    assert values["mae_psa"] == 0
    assert values["mae_age"] == pytest.approx(mean_absolute_error(TRUTH, PREDICTED))
    assert "mae" not in values, "a mean of years and ng/ml means nothing"
    assert metric_of_quantity("auroc_age") is None


def test_mean_and_scale_are_those_of_the_training_split_only():
    target = Regression(["age"]).fitted_on(np.array([[50.0], [70.0]]))
    assert target.state()["mean"] == [60.0]
    assert target.state()["scale"] == [10.0]
    assert target.answers(torch.tensor([[-1.0], [2.0]])).tolist() == [[50.0], [80.0]]
    losses = target.losses(torch.tensor([[0.0]]), torch.tensor([[65.0]]))
    assert losses.tolist() == pytest.approx([0.5**2 / 2])


def test_the_huber_loss_is_linear_from_delta_on():
    huber = Regression(["age"], loss="huber", delta=1.0).fitted_on(np.array([[-1.0], [1.0]]))
    squared = Regression(["age"], loss="squared").fitted_on(np.array([[-1.0], [1.0]]))
    logits, labels = torch.tensor([[0.0], [0.0]]), torch.tensor([[0.5], [9.0]])
    assert huber.losses(logits, labels).tolist() == pytest.approx([0.125, 8.5])
    assert squared.losses(logits, labels).tolist() == pytest.approx([0.125, 40.5])


def test_limits_of_agreement_are_the_bias_and_two_deviations_around_it():
    bias, low, high = limits_of_agreement(TRUTH, PREDICTED)
    differences = PREDICTED - TRUTH
    assert bias == pytest.approx(differences.mean())
    assert (high - low) / 2 == pytest.approx(1.96 * differences.std(ddof=1))


@pytest.mark.parametrize(
    ("cells", "words"),
    [
        ([61, None, 70], "column 'age' must hold finite numbers, but 1 of 3 cells do not: the first is empty"),
        ([61, "unknown", 70], "the first is 'unknown'"),
        ([61, np.inf, 70], "the first is 'inf'"),
        ([61, 1e39, 70], r"the first is '1e\+39', beyond 1e\+30"),
    ],
)
def test_bad_cells_are_refused_with_the_slide(cells, words):
    bags = pd.DataFrame({"bag_id": ["a", "b", "c"], "age": cells})
    with pytest.raises(ValueError, match=words) as found:
        bag_numbers(bags, Regression(["age"]), None, "label")
    assert "'b'" in str(found.value) or "slide b" in str(found.value)


def test_a_constant_target_is_refused_by_name():
    with pytest.raises(ValueError, match="all 3 training bags have age = 61: a constant cannot be learnt"):
        Regression(["age"]).fitted_on(np.full((3, 1), 61.0))


@pytest.mark.parametrize(
    ("options", "words"),
    [
        ({"loss": "median"}, "target.loss is 'median'; it must be one of huber, squared"),
        ({"delta": 0}, "target.delta is 0"),
        ({"columns": ["age", "age"]}, "give each column once"),
        ({"columns": ["age", "psa"], "units": ["years"]}, "1 units for 2 columns"),
    ],
)
def test_bad_options_are_refused(options, words):
    with pytest.raises(ValueError, match=words):
        Regression(**options)
