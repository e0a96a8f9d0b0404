"""Several networks as one: its logits give the averages of all predictions, whatever the target."""

import numpy as np
import pytest
import torch
from scipy.stats import spearmanr
from torch import nn

from milpath.models.averaged_network import AveragedNetwork
from milpath.models.output import DetailedMILOutput, MILOutput
from milpath.targets import Multilabel, Regression, Several, Survival, Target, target_named

NUM_TILES = 7


class Fixed(nn.Module):
    """A network that says the same of every bag."""

    def __init__(self, logits, seed, detailed=False):
        super().__init__()
        self.logits, self.detailed = torch.tensor(logits), detailed
        self.weights = torch.softmax(torch.randn(2, NUM_TILES, generator=torch.Generator().manual_seed(seed)), 1)

    def forward(self, tiles, mask=None):
        weights = self.weights if mask is None else self.weights * mask
        weights = weights / weights.sum(1, keepdim=True)
        if self.detailed:
            return DetailedMILOutput(self.logits, weights, class_attention=weights[:, None].expand(-1, 2, -1))
        return MILOutput(self.logits, weights)


def regression(mean, scale):
    return Regression(["age", "psa"], mean=mean, scale=scale)


CASES = {
    "binary": [target_named("binary")] * 2,
    "nominal": [target_named("nominal")] * 2,
    "ordinal": [target_named("ordinal")] * 2,
    "regression": [regression([50.0, 2.0], [10.0, 0.5]), regression([60.0, 3.0], [5.0, 1.5])],
    "quantiles": [
        Regression(["age", "psa"], mean=mean, scale=scale, quantiles=[0.1, 0.9])
        for mean, scale in (([50.0, 2.0], [10.0, 0.5]), ([60.0, 3.0], [5.0, 1.5]))
    ],
}
OUTPUTS = {"binary": 1, "nominal": 3, "ordinal": 3, "regression": 2, "quantiles": 6}


def networks(name, detailed=False):
    draw = np.random.default_rng(0)
    shape = (2, OUTPUTS[name])
    return [Fixed(draw.normal(size=shape).astype(np.float32) * 3, seed, detailed) for seed in range(2)]


@pytest.mark.parametrize("name", CASES)
def test_the_average_is_that_of_the_predictions_each_at_its_temperature(name):
    members, targets = networks(name), CASES[name]
    output = AveragedNetwork(members, targets, [1.0, 2.5])(torch.zeros(2, NUM_TILES, 4))
    each = torch.stack(
        [target.answers(member.logits, t) for member, target, t in zip(members, targets, [1.0, 2.5], strict=True)]
    )
    torch.testing.assert_close(targets[0].answers(output.logits), each.mean(0), rtol=1e-5, atol=1e-6)
    np.testing.assert_allclose(output.spread, np.std(each.double().numpy(), axis=0, ddof=1), rtol=1e-4, atol=1e-6)


def test_certain_networks_stay_finite():
    for name, logits in {"binary": [[200.0]], "nominal": [[200.0, 0, 0]], "ordinal": [[200.0, 200, 200]]}.items():
        member = Fixed(np.array(logits * 2, dtype=np.float32), 0)
        output = AveragedNetwork([member, member], CASES[name], [1.0, 1.0])(torch.zeros(2, NUM_TILES, 4))
        assert torch.isfinite(output.logits).all()
        torch.testing.assert_close(CASES[name][0].answers(output.logits).max(1).values, torch.ones(2))


def test_attention_is_averaged_and_its_agreement_is_the_rank_correlation_over_real_tiles():
    members = networks("binary", detailed=True)
    mask = torch.ones(2, NUM_TILES, dtype=torch.bool)
    mask[1, 4:] = False
    output = AveragedNetwork(members, CASES["binary"], [1.0, 1.0])(torch.zeros(2, NUM_TILES, 4), mask)
    both = torch.stack([member(None, mask).attention for member in members])
    torch.testing.assert_close(output.attention, both.mean(0))
    torch.testing.assert_close(output.attention.sum(1), torch.ones(2))
    torch.testing.assert_close(output.class_attention[:, 1], both.mean(0))
    for bag, length in enumerate((NUM_TILES, 4)):
        wanted = spearmanr(both[0, bag, :length], both[1, bag, :length]).statistic
        assert output.agreement[bag].item() == pytest.approx(wanted, abs=1e-9)


def test_a_target_without_averages_is_refused():
    class Own(Regression):
        """Numbers without a definition of their average."""

        name = "own"
        logits_of = Target.logits_of

    with pytest.raises(ValueError, match="cannot be averaged for a own task; define logits_of in its target"):
        AveragedNetwork(networks("binary"), [Own(), Own()], [1.0, 1.0])
    with pytest.raises(ValueError, match="a fold has no baseline hazard, which its training fits at its end"):
        AveragedNetwork(networks("binary"), [Survival(), Survival()], [1.0, 1.0])


def test_several_targets_average_each_as_by_itself():
    """Classes at the temperature of each fold, quantiles in units, survival as curves; the maps of a target stay."""
    draw = np.random.default_rng(1)
    labels = np.column_stack([draw.integers(0, 2, 30), draw.normal(50, 10, 30), draw.exponential(5, 30), np.ones(30)])
    folds = []
    for fold in range(2):
        target = Several(
            {"grade": {"task": "binary", "class_names": ["low", "high"]},
             "age": {"task": "regression", "quantiles": [0.1, 0.5, 0.9]}, "os": "survival"}
        ).fitted_on(labels[fold * 5 : fold * 5 + 25])  # fmt: skip
        logits = draw.normal(size=(30, 6)).astype(np.float32)
        target = target.fitted_on_predictions(logits, labels)
        folds.append(target.decided_on(logits, labels, calibrate=True))
    members = [Fixed(draw.normal(size=(2, 6)).astype(np.float32), seed) for seed in range(2)]
    network = AveragedNetwork(members, folds, [1.0, 1.0])
    output = network(torch.zeros(2, NUM_TILES, 4))
    average = network.target
    found = dict(zip(average.answer_columns, average.answers(output.logits).T.double().numpy(), strict=True))
    each = [target.answers(member.logits.double()).numpy() for target, member in zip(folds, members, strict=True)]
    assert [target.members[0].decision.temperature != 1 for target in folds] == [True, True]
    for place, name in enumerate(folds[0].answer_columns):
        if name.startswith(("grade", "age")):
            np.testing.assert_allclose(found[name], np.mean([own[:, place] for own in each], axis=0), rtol=1e-4)
            np.testing.assert_allclose(output.each[..., place].T, [own[:, place] for own in each], rtol=1e-6)
    for time in average.members[2].target.times:
        curves = [
            target.members[2].target.cumulative_hazard(member.logits[:, 5:].double(), torch.tensor([time]).double())
            for target, member in zip(folds, members, strict=True)
        ]
        wanted = torch.stack([(-curve).exp() for curve in curves]).mean(0)[:, 0].numpy()
        np.testing.assert_allclose(found[f"os/survival_at_{time:.9g}"], wanted, rtol=1e-5)
    again = Several().with_state(average.state())
    torch.testing.assert_close(again.answers(output.logits), average.answers(output.logits))


def test_the_columns_of_multilabel_average_each_on_its_own():
    labels = np.array([[0, 1], [1, 0], [1, np.nan], [0, 1]], dtype=float)
    folds = []
    for _ in range(2):
        target = Multilabel(["egfr", "kras"], ["wild type", "mutated"]).fitted_on(labels)
        folds.append(target)
    members = [Fixed(np.array(logits, dtype=np.float32), 0) for logits in ([[2.0, -1.0]] * 2, [[0.0, 3.0]] * 2)]
    network = AveragedNetwork(members, folds, [1.0, 1.0])
    found = network.target.answers(network(torch.zeros(2, NUM_TILES, 4)).logits)[0]
    wanted = (torch.sigmoid(torch.tensor([2.0, -1.0])) + torch.sigmoid(torch.tensor([0.0, 3.0]))) / 2
    torch.testing.assert_close(found[1::2], wanted)
    assert Multilabel().with_state(network.target.state()).answer_columns == folds[0].answer_columns
