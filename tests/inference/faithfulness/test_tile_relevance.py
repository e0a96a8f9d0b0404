import numpy as np
import pytest
import torch

from milpath.inference.faithfulness import question_of
from milpath.inference.faithfulness.partial_bags import PartialBags
from milpath.inference.faithfulness.tile_relevance import tile_relevance
from milpath.models import CLAMMB, AdditiveMIL, AttentionMIL, InstancePoolMIL
from milpath.models.checkpoint import Card
from milpath.models.output import DetailedMILOutput
from milpath.models.pooling import full_mask
from tests.inference.faithfulness.bags_with_truth import CARD

FEATURES = {"name": "linear", "num_features": 8, "hidden_dims": [16]}


def relevance_of(network, tiles, card=CARD, explain=None):
    explained, values, relevance, _ = tile_relevance(PartialBags(network, tiles), question_of(card, explain), 100)
    return explained, values, relevance


class Sum(torch.nn.Module):
    """A logit that is a sum over tiles."""

    def forward(self, tiles, mask=None):
        mask = full_mask(tiles, mask)
        each = tiles.sum(2) * mask
        return DetailedMILOutput(
            each.sum(1, keepdim=True), mask / mask.sum(1, keepdim=True), contributions=each[:, None]
        )


def test_where_the_logit_is_a_sum_leaving_a_tile_out_takes_away_its_contribution():
    tiles = torch.randn(1, 9, 8)
    _, values, relevance = relevance_of(Sum(), tiles)
    np.testing.assert_allclose(relevance["occlusion"], relevance["contribution"], atol=1e-5)
    np.testing.assert_allclose(relevance["gradient x input"], relevance["contribution"], atol=1e-5)
    np.testing.assert_allclose(relevance["contribution"].sum(), values[1], atol=1e-5)
    np.testing.assert_allclose(np.abs(relevance["single tile"]), np.abs(relevance["contribution"]), atol=1e-5)


def test_of_additive_mil_leaving_a_tile_out_takes_away_its_contribution_but_for_the_shares_of_attention():
    torch.manual_seed(0)
    network, tiles = AdditiveMIL(encoder=dict(FEATURES)).eval(), torch.randn(1, 9, 8)
    explained, values, relevance = relevance_of(network, tiles)
    np.testing.assert_allclose(relevance["contribution"].sum(), values[1], atol=1e-5)
    # Attention is shared out anew among the others: without tile k the logit is (z - c_k) / (1 - a_k).
    attention = relevance["attention"]
    without = (values[1] - relevance["contribution"]) / (1 - attention)
    np.testing.assert_allclose(values[1] - relevance["occlusion"], without, atol=1e-5)
    assert explained.sign == 1


def test_contributions_speak_for_the_predicted_class():
    torch.manual_seed(0)
    network, tiles = AdditiveMIL(encoder=dict(FEATURES)).eval(), torch.randn(1, 9, 8)
    benign, malignant = (relevance_of(network, tiles, explain=name) for name in CARD.class_names)
    for name in ("contribution", "gradient x input", "occlusion"):
        np.testing.assert_allclose(benign[2][name], -malignant[2][name], atol=1e-5)
    assert benign[0].towards_positive == -malignant[0].towards_positive == -1
    np.testing.assert_allclose(benign[1][1], -malignant[1][1], rtol=1e-6)


def test_the_gradient_is_that_of_the_difference_quotient():
    torch.manual_seed(0)
    network, tiles = AttentionMIL(encoder=dict(FEATURES)).eval().double(), torch.randn(1, 5, 8, dtype=torch.float64)
    bag, question = PartialBags(network, tiles), question_of(CARD, "malignant")
    _, _, relevance, output = tile_relevance(bag, question, 0)
    step = 1e-6
    for tile in range(5):
        scaled = bag.embeddings[0].clone()
        scaled[0, tile] *= 1 + step
        change = float((bag.output([scaled]).logits - output.logits).detach()) / step
        np.testing.assert_allclose(relevance["gradient x input"][tile], change, rtol=1e-4, atol=1e-8)


def test_a_network_with_attention_per_class_has_that_of_the_explained_class():
    torch.manual_seed(0)
    card = Card({}, ("a", "b", "c"), "nominal")
    network, tiles = CLAMMB(encoder=dict(FEATURES), num_outputs=3).eval(), torch.randn(1, 9, 8)
    with torch.no_grad():
        output = network(tiles)
    for place, name in enumerate(card.class_names):
        _, _, relevance = relevance_of(network, tiles, card, name)
        np.testing.assert_allclose(relevance["class attention"], output.class_attention[0, place], atol=1e-6)
        np.testing.assert_allclose(relevance["attention"], output.attention[0], atol=1e-6)


@pytest.mark.parametrize("pooling", ["mean", "max"])
def test_of_a_mean_over_tiles_the_highest_tile_is_the_highest_of_every_exact_order(pooling):
    torch.manual_seed(0)
    network, tiles = InstancePoolMIL(encoder=dict(FEATURES), pooling=pooling).eval(), torch.randn(1, 9, 8)
    with torch.no_grad():
        best = int(network.instance_logits(network.encode(tiles))[0, :, 0].argmax())
    _, _, relevance = relevance_of(network, tiles, explain="malignant")
    assert relevance["occlusion"].argmax() == relevance["single tile"].argmax() == best
    assert (np.ptp(relevance["attention"]) < 1e-6) == (pooling == "mean")
