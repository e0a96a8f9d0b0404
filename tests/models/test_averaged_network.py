"""Several networks as one: its logits give the averages of all predictions, whatever the target."""

import numpy as np
import pytest
import torch
from scipy.stats import spearmanr
from torch import nn

from milpath.models.averaged_network import AveragedNetwork
from milpath.models.output import DetailedMILOutput, MILOutput
from milpath.targets import Regression, Survival, target_named

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
}
OUTPUTS = {"binary": 1, "nominal": 3, "ordinal": 3, "regression": 2}


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
    with pytest.raises(
        ValueError, match="cannot be averaged for a survival task: the risks of different folds have differ"
    ):
        AveragedNetwork(networks("binary"), [Survival(), Survival()], [1.0, 1.0])
