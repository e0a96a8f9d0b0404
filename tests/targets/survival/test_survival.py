import logging

import numpy as np
import pandas as pd
import pytest
import torch
import torch.distributed as dist
import torch.multiprocessing as multiprocessing

from milpath.targets import Survival
from milpath.targets.columns.label_columns import bag_numbers
from milpath.targets.columns.number_columns import warn_of_units
from milpath.targets.survival.survival_losses import (
    cox_losses,
    hazard_losses,
    hazard_mean,
    hazard_median,
    hazard_survival,
)
from milpath.training.split_metrics import of_all_processes

# lifelines and scikit-survival warn about the pandas of today.
reference = pytest.mark.filterwarnings("ignore")


def rossi():
    """Time, event and covariates of 432 convicts, with many tied weeks."""
    datasets = pytest.importorskip("lifelines.datasets", reason="needs lifelines (uv pip install -e '.[dev]')")
    table = datasets.load_rossi()
    return table, table.drop(columns=["week", "arrest"]).to_numpy(np.float64)


@reference
def test_the_partial_likelihood_equals_lifelines():
    from lifelines import CoxPHFitter

    table, covariates = rossi()
    fitted = CoxPHFitter().fit(table, "week", "arrest")
    risk = torch.tensor(covariates @ fitted.params_.to_numpy())
    time, event = torch.tensor(table["week"].to_numpy(float)), torch.tensor(table["arrest"].to_numpy(bool))
    assert cox_losses(risk, time, event).sum().item() == pytest.approx(-fitted.log_likelihood_, abs=1e-6)


@reference
def test_a_linear_network_on_bags_of_one_instance_reaches_the_coefficients_of_cox():
    from lifelines import CoxPHFitter
    from sksurv.linear_model import CoxPHSurvivalAnalysis

    table, covariates = rossi()
    labels = torch.tensor(table[["week", "arrest"]].to_numpy(np.float64))
    target, weights = Survival(), torch.zeros(covariates.shape[1], dtype=torch.float64, requires_grad=True)
    optimizer = torch.optim.LBFGS([weights], max_iter=200, line_search_fn="strong_wolfe", tolerance_grad=1e-10)

    def step():
        optimizer.zero_grad()
        loss = target.losses((torch.tensor(covariates) @ weights)[:, None], labels).sum()
        loss.backward()
        return loss

    for _ in range(5):
        optimizer.step(step)
    found = weights.detach().numpy()
    np.testing.assert_allclose(found, CoxPHFitter().fit(table, "week", "arrest").params_.to_numpy(), atol=1e-5)
    outcome = np.array(list(zip(table["arrest"] == 1, table["week"], strict=True)), dtype=[("e", bool), ("t", float)])
    efron = CoxPHSurvivalAnalysis(ties="efron", tol=1e-12).fit(covariates, outcome)
    np.testing.assert_allclose(found, efron.coef_, atol=1e-5)


@reference
def test_survival_and_median_after_cox_equal_scikit_survival():
    from sksurv.linear_model import CoxPHSurvivalAnalysis

    table, covariates = rossi()
    covariates = covariates - covariates.mean(axis=0)
    outcome = np.array(list(zip(table["arrest"] == 1, table["week"], strict=True)), dtype=[("e", bool), ("t", float)])
    fitted = CoxPHSurvivalAnalysis(ties="efron", tol=1e-12).fit(covariates, outcome)
    risk = torch.tensor(covariates @ fitted.coef_)[:, None]
    labels = table[["week", "arrest"]].to_numpy(np.float64)
    target = Survival(times=[10, 26.5, 50]).fitted_on(labels).fitted_on_predictions(risk.numpy(), labels)
    answers = target.answers(risk)
    for row, curve in enumerate(fitted.predict_survival_function(covariates[:40])):
        np.testing.assert_allclose(answers[row, 1:4].numpy(), curve(np.array([10, 26.5, 50])), atol=1e-6)
        below = curve.x[curve.y <= 0.5]
        expected = below[0] if len(below) else np.nan
        np.testing.assert_equal(answers[row, 4].item(), expected)


def test_the_partial_likelihood_depends_neither_on_the_order_of_bags_nor_on_a_shift_of_risks():
    draw = torch.Generator().manual_seed(0)
    risk = torch.randn(30, generator=draw, dtype=torch.float64)
    time, event = torch.randint(1, 6, (30,), generator=draw).double(), torch.rand(30, generator=draw) < 0.6
    order = torch.randperm(30, generator=draw)
    total = cox_losses(risk, time, event).sum()
    torch.testing.assert_close(cox_losses(risk[order], time[order], event[order]).sum(), total)
    torch.testing.assert_close(cox_losses(risk + 300, time, event).sum(), total)


def test_a_target_that_was_not_fitted_says_so_in_one_line():
    labels = np.array([[1.0, 1.0], [2.0, 0.0]])
    assert Survival().undefined_metrics(labels) == ""
    with pytest.raises(ValueError, match="fitted on the times of a training split"):
        Survival().evaluate(labels, np.zeros((2, 1)))


def test_extreme_risks_have_a_finite_loss_and_gradient():
    risk = torch.tensor([-200.0, 0.0, 300.0, 80.0], requires_grad=True)
    time, event = torch.tensor([4.0, 3.0, 1.0, 2.0]), torch.tensor([True, True, True, False])
    losses = cox_losses(risk, time, event)
    (slope,) = torch.autograd.grad(losses.sum(), risk)
    assert torch.isfinite(losses).all()
    assert torch.isfinite(slope).all()


def test_bags_without_an_event_have_no_loss_but_a_gradient_of_zero():
    risk = torch.zeros(3, requires_grad=True)
    losses = cox_losses(risk, torch.tensor([1.0, 2.0, 3.0]), torch.zeros(3, dtype=torch.bool))
    (slope,) = torch.autograd.grad(losses.sum(), risk)
    assert losses.tolist() == [0, 0, 0]
    assert slope.tolist() == [0, 0, 0]


def test_the_likelihood_of_hazards_is_that_of_the_intervals_that_were_passed():
    cuts = torch.tensor([2.0, 5.0, 9.0])
    logits = torch.tensor([[0.3, -0.4, 1.2]]).expand(5, -1)
    h = torch.sigmoid(logits[0])
    time, event = torch.tensor([2.0, 4.0, 4.0, 9.0, 30.0]), torch.tensor([True, True, False, False, True])
    expected = [
        -h[0].log(),
        -(1 - h[0]).log() - h[1].log(),
        -(1 - h[0]).log(),
        -(1 - h).log().sum(),
        -(1 - h).log().sum(),
    ]
    torch.testing.assert_close(hazard_losses(logits, time, event, cuts), torch.stack(expected))


def test_survival_of_hazards_is_their_product_at_the_cuts_and_falls_between_them():
    cuts, logits = torch.tensor([2.0, 5.0, 9.0]), torch.tensor([[0.3, -0.4, 1.2]])
    product = (1 - torch.sigmoid(logits)).cumprod(1)
    torch.testing.assert_close(hazard_survival(logits, cuts, cuts), product)
    times = torch.linspace(0, 12, 60)
    curve = hazard_survival(logits, times, cuts)[0]
    assert curve[0] == 1
    assert (curve.diff() <= 0).all()
    torch.testing.assert_close(curve[-1], product[0, -1])
    median = hazard_median(logits, cuts)
    torch.testing.assert_close(hazard_survival(logits, median, cuts), torch.tensor([[0.5]]))
    assert torch.isnan(hazard_median(torch.full((1, 3), -5.0), cuts)).all()
    assert 0 < hazard_mean(logits, cuts).item() < 1


@pytest.mark.parametrize("loss", ["cox", "hazard"])
def test_a_higher_risk_means_an_earlier_event(loss):
    labels = np.stack([np.arange(1.0, 31.0), np.ones(30)], axis=1)
    target = Survival(loss=loss, num_intervals=5).fitted_on(labels)
    logits = torch.linspace(2, -2, 30)[:, None].expand(-1, target.num_outputs(1)).contiguous()
    assert target.losses(logits, torch.tensor(labels)).sum() < target.losses(-logits, torch.tensor(labels)).sum()
    outcomes = target.evaluate(labels, target.answers(logits).numpy().astype(float))
    assert target.metrics(outcomes)["c_index"] == 1.0


def test_the_intervals_end_at_quantiles_of_the_event_times_of_the_training_split():
    time = np.r_[np.arange(1.0, 9.0), 100.0]
    target = Survival(loss="hazard", num_intervals=4).fitted_on(np.stack([time, np.r_[np.ones(8), 0.0]], axis=1))
    assert target.state()["cuts"] == pytest.approx(np.quantile(time[:8], [0.25, 0.5, 0.75, 1]).tolist())
    tied = Survival(loss="hazard", num_intervals=8).fitted_on(np.array([[3.0, 1], [3.0, 1], [7.0, 1]]))
    assert tied.num_outputs(1) == len(tied.state()["cuts"]) < 8


@pytest.mark.parametrize(
    ("time", "event", "words"),
    [
        ([1, -2, 3], [1, 0, 1], "column 'time' must hold times of 0 or more, but 1 are negative: the first is -2"),
        ([1, np.inf, 3], [1, 0, 1], "column 'time' must hold finite numbers"),
        ([1, 1e300, 3], [1, 0, 1], "the first is '1e\\+300', beyond"),
        ([1, None, 3], [1, 0, 1], "column 'time' must hold finite numbers"),
        ([1, 2, 3], [1, 2, 0], "column 'event' must hold 1 or true for an event .* the first of 1 other cells is '2'"),
        ([1, 2, 3], [1, "perhaps", 0], "is 'perhaps'"),
        ([1, 2, 3], [1, None, 0], "is empty"),
    ],
)
def test_bad_cells_are_refused_with_the_slide(time, event, words):
    bags = pd.DataFrame({"bag_id": ["a", "b", "c"], "time": time, "event": pd.Series(event, dtype=object)})
    with pytest.raises(ValueError, match=words) as found:
        bag_numbers(bags, Survival(), None, "label")
    assert "'b'" in str(found.value)


CELLS = [
    ["1", "0"],
    [True, False],
    ["true", "FALSE"],
    [1.0, 0.0],
    ["1.0", "0.0"],
    ["yes", "No"],
    ["1:DECEASED", "0:LIVING"],
    ["Dead", "alive"],
    ["deceased", "Living"],
    ["event", "censored"],
]


@pytest.mark.parametrize("cells", CELLS)
def test_events_are_read_however_they_are_written(cells, caplog):
    names = ("e", "uncensored", "death_uncensored", "non_censored", "is_not_censored", "license", "Censorship")
    bags = pd.DataFrame({"bag_id": ["a", "b"], "t": [1, 2]} | dict.fromkeys(names, cells))
    for name in names:
        assert bag_numbers(bags, Survival("t", name), None, "label")[0].tolist() == [[1.0, 1.0], [2.0, 0.0]]
    (warning,) = (record.message for record in caplog.records if record.levelname == "WARNING")
    assert warning.startswith(
        "column 'Censorship' is read as 1 for an event: 1 of 2 bags have one; if 1 is censored there"
    )


def test_a_training_split_without_an_event_is_refused():
    with pytest.raises(ValueError, match="all 3 training bags are censored .column 'died' is 0"):
        Survival(event_column="died").fitted_on(np.array([[1.0, 0], [2, 0], [3, 0]]))


@pytest.mark.parametrize(
    ("factor", "warned"),
    [(365.25, "days and years"), (30.0, "days and months"), (20.0, "days and months"), (2.0, ""), (7.0, "")],
)
def test_times_in_other_units_of_a_centre_are_a_warning(factor, warned, caplog):
    time = np.r_[np.full(5, 24.0), np.full(5, 24.0 * factor)]
    bags = pd.DataFrame({"bag_id": [f"b{n}" for n in range(10)], "centre": ["A"] * 5 + ["B"] * 5})
    with caplog.at_level(logging.WARNING):
        warn_of_units(bags, time)
    assert (warned in caplog.text) if warned else not caplog.text


def _slope_of_a_part(rank: int, path: str, counts: tuple[int, ...]) -> None:
    dist.init_process_group("gloo", init_method=f"file://{path}/meeting", rank=rank, world_size=len(counts))
    features, labels = torch.load(f"{path}/bags.pt", weights_only=True)
    rows = slice(sum(counts[:rank]), sum(counts[: rank + 1]))
    weights = torch.ones(features.shape[1], requires_grad=True)
    logits, everyone = of_all_processes((features[rows] @ weights)[:, None], labels[rows])
    losses = Survival().losses(logits, everyone)
    # As in a step: DDP takes the mean of the gradients over the processes.
    (losses.sum() / len(features) * len(counts)).backward()
    dist.all_reduce(weights.grad)
    torch.save((weights.grad / len(counts), losses.sum().detach()), f"{path}/slope_{rank}.pt")
    dist.destroy_process_group()


@pytest.mark.command
def test_the_risk_sets_of_two_processes_are_those_of_one(tmp_path):
    draw = torch.Generator().manual_seed(0)
    features = torch.randn(7, 4, generator=draw)
    labels = torch.stack([torch.randint(1, 4, (7,), generator=draw).float(), torch.tensor([1.0, 0, 1, 1, 0, 1, 1])], 1)
    torch.save((features, labels), tmp_path / "bags.pt")
    weights = torch.ones(4, requires_grad=True)
    losses = Survival().losses((features @ weights)[:, None], labels)
    (losses.sum() / 7).backward()
    multiprocessing.spawn(_slope_of_a_part, (str(tmp_path), (5, 2)), nprocs=2)
    for rank in range(2):
        slope, total = torch.load(tmp_path / f"slope_{rank}.pt", weights_only=True)
        torch.testing.assert_close(slope, weights.grad)
        torch.testing.assert_close(total, losses.sum().detach())
