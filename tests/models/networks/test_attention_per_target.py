"""One attention per target of the attention network."""

import pytest
import torch

from milpath.models import AttentionMIL
from milpath.models.network_description import build_described, describe_network
from milpath.models.output import DetailedMILOutput
from milpath.models.tile_maps import tile_maps

FEATURES = {"name": "linear", "num_features": 5}
WIDTHS = [1, 3, 2]


def make(gated: bool = False) -> AttentionMIL:
    torch.manual_seed(0)
    return AttentionMIL(
        encoder=FEATURES,
        gated=gated,
        num_outputs=6,
        attention_dim=4,
        attention_per_target=True,
        outputs_per_target=WIDTHS,
    ).eval()


@pytest.mark.parametrize("gated", [False, True])
def test_the_logits_of_a_target_come_from_the_mean_that_its_own_attention_weights(gated):
    network, bags = make(gated), torch.rand(2, 7, 5)
    mask = torch.arange(7)[None] < torch.tensor([7, 4])[:, None]
    output = network(bags, mask)
    assert isinstance(output, DetailedMILOutput)
    weights = output.target_attention
    assert weights.shape == (2, 3, 7)
    torch.testing.assert_close(weights.sum(2), torch.ones(2, 3))
    assert (weights[1, :, 4:] == 0).all()
    torch.testing.assert_close(output.attention, weights.mean(1))
    embeddings, layer, start = network.encode(bags, mask), network.classification_layer, 0
    for target, width in enumerate(WIDTHS):
        pooled = (weights[:, target, :, None] * embeddings).sum(1)
        own = slice(start, start + width)
        wanted = pooled @ layer.weight[own].T + layer.bias[own]
        torch.testing.assert_close(output.logits[:, own], wanted, rtol=1e-5, atol=1e-6)
        start += width
    assert (weights[:, 0] != weights[:, 1]).any()
    torch.testing.assert_close(network(bags[1:, :4]).logits[0], output.logits[1], rtol=1e-5, atol=1e-6)


def test_a_target_does_not_learn_from_the_attention_of_another():
    network = make()
    network(torch.rand(2, 7, 5)).logits[:, 0].sum().backward()
    gradient = network.attention_pooling.score_layer.weight.grad
    assert (gradient[0] != 0).any()
    assert (gradient[1:] == 0).all()


def test_the_maps_have_the_names_of_the_targets():
    output = make()(torch.rand(1, 3, 5))
    logits = [f"logit {number}" for number in range(6)]
    assert list(tile_maps(output, logits, ["mutated", "grade", "os"])) == [
        "attention_mutated", "attention_grade", "attention_os",
    ]  # fmt: skip
    with pytest.raises(ValueError, match="3 attentions for 2 targets; give one per target"):
        tile_maps(output, logits, ["a", "b"])


def test_the_checkpoint_rebuilds_it():
    network, bags = make(gated=True), torch.rand(2, 3, 5)
    again = build_described(describe_network(network), network.state_dict()).eval()
    torch.testing.assert_close(again(bags).logits, network(bags).logits, rtol=0, atol=0)


def test_one_attention_for_all_is_the_network_of_the_article_as_before():
    torch.manual_seed(0)
    network = AttentionMIL(encoder=FEATURES, num_outputs=6, outputs_per_target=WIDTHS)
    assert network(torch.rand(1, 3, 5)).attention.shape == (1, 3)
    assert not isinstance(network(torch.rand(1, 3, 5)), DetailedMILOutput)


@pytest.mark.parametrize("widths", [None, [1, 2], []])
def test_logits_that_do_not_fit_are_refused(widths):
    with pytest.raises(ValueError, match="attention_per_target needs outputs_per_target whose sum is num_outputs=6"):
        AttentionMIL(encoder=FEATURES, num_outputs=6, attention_per_target=True, outputs_per_target=widths)
