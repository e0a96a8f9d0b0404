"""Quantiles of regression: their order, their loss, and how many labels they cover."""

import numpy as np
import pytest
import torch
from sklearn.metrics import mean_pinball_loss

from milpath.metrics.intervals import metric_intervals
from milpath.metrics.quantile_metrics import share_at_or_below
from milpath.metrics.weighted_metrics import metric_function
from milpath.reports.plots.number_figures import number_plots
from milpath.targets import Regression
from milpath.targets.quantiles import quantiles_of

LEVELS = [0.05, 0.25, 0.5, 0.95]


def test_quantiles_never_cross_whatever_the_logits_are():
    logits = 50 * torch.randn(1000, 4, generator=torch.Generator().manual_seed(0))
    assert (quantiles_of(logits, LEVELS).diff(dim=1) >= 0).all()
    target = Regression(["age"], quantiles=LEVELS).fitted_on(np.array([[20.0], [90.0]]))
    assert (target.answers(torch.cat([logits[:, :1], logits], 1))[:, 1:].diff(dim=1) >= 0).all()


def test_the_pinball_loss_and_its_metric_are_those_of_sklearn():
    draw = np.random.default_rng(0)
    labels = draw.normal([60, 3], [12, 1], (200, 2))
    target = Regression(["age", "psa"], loss="squared", quantiles=LEVELS).fitted_on(labels)
    logits = torch.from_numpy(draw.normal(size=(200, target.num_outputs(2))))
    answers = target.answers(logits).numpy()
    outcomes = target.evaluate(labels, answers)
    values = target.metrics(outcomes)
    loss = 0.0
    for place, name in enumerate(("age", "psa")):
        columns = [target.answer_columns.index(f"predicted_{name}_q{level:g}") for level in LEVELS]
        each = [
            mean_pinball_loss(labels[:, place], answers[:, column], alpha=level)
            for column, level in zip(columns, LEVELS, strict=True)
        ]
        assert values[f"pinball_{name}"] == pytest.approx(np.mean(each), rel=1e-9)
        inside = (answers[:, columns[0]] <= labels[:, place]) & (labels[:, place] <= answers[:, columns[-1]])
        assert values[f"coverage_{name}"] == inside.mean()
        assert values[f"width_{name}"] == pytest.approx((answers[:, columns[-1]] - answers[:, columns[0]]).mean())
        residual = (answers[:, place] - labels[:, place]) / target.scale[place]
        loss += (np.mean(each) / target.scale[place] + np.mean(residual**2) / 2) / 2
    assert float(target.losses(logits, torch.from_numpy(labels)).mean()) == pytest.approx(loss, rel=1e-9)


def test_the_weights_of_a_bootstrap_count_bags():
    draw = np.random.default_rng(1)
    labels, drawn = draw.normal(size=(30, 1)), draw.integers(0, 30, 30)
    target = Regression(["age"], quantiles=[0.2, 0.8]).fitted_on(labels)
    outcomes = target.evaluate(labels, target.answers(torch.from_numpy(draw.normal(size=(30, 3)))).numpy())
    weights = np.bincount(drawn, minlength=30)[None].astype(float)
    for name in ("coverage", "pinball", "width"):
        assert metric_function(name)(outcomes, weights)[0] == pytest.approx(
            float(metric_function(name)(outcomes.part(drawn)))
        )


def test_trained_quantiles_cover_what_was_asked_on_known_noise():
    generator = torch.Generator().manual_seed(0)
    feature = torch.rand(4000, 1, generator=generator, dtype=torch.float64)
    # The noise grows with the feature, so that one distance for all bags would not cover 90% everywhere.
    labels = (3 * feature + (0.2 + feature) * torch.randn(4000, 1, generator=generator, dtype=torch.float64)).numpy()
    target = Regression(["age"], quantiles=[0.05, 0.5, 0.95]).fitted_on(labels[:2000])
    layers = torch.nn.Sequential(torch.nn.Linear(1, 16), torch.nn.Tanh(), torch.nn.Linear(16, 4)).double()
    optimizer = torch.optim.Adam(layers.parameters(), lr=0.02)
    for _ in range(400):
        optimizer.zero_grad()
        target.losses(layers(feature[:2000]), torch.from_numpy(labels[:2000])).mean().backward()
        optimizer.step()
    with torch.no_grad():
        answers = target.answers(layers(feature)).numpy()
    for rows in (slice(2000, None), np.flatnonzero(feature[:, 0].numpy() > 0.5)):
        outcomes = target.evaluate(labels[rows], answers[rows])
        found = metric_intervals(outcomes, ["coverage"], 200)["coverage"]
        standard_error = np.sqrt(0.9 * 0.1 / outcomes.num_bags)
        assert found.low < found.value < found.high
        assert abs(found.value - 0.9) < 4 * standard_error, found
        np.testing.assert_allclose(share_at_or_below(outcomes, 0), [0.05, 0.5, 0.95], atol=0.04)
    said = target.sentence(outcomes, "Of 9 test bags", ["age"], {"coverage": found})
    assert "90% are expected" in said
    assert "quantiles-0" in [plot.name for plot in number_plots(outcomes, ("",))]


@pytest.mark.parametrize("levels", [[0.5], [0.9, 0.1], [0, 0.5], [0.5, 1.0], ["a", "b"], "all", [0.1, 0.1], [True, 2]])
def test_levels_that_are_no_quantiles_are_refused_in_one_line(levels):
    with pytest.raises(ValueError, match=r"target\.quantiles is .* ascending numbers between 0 and 1") as error:
        Regression(["age"], quantiles=levels)
    assert "\n" not in str(error.value)
