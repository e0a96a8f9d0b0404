import numpy as np
import pytest
import torch

from milpath.inference.faithfulness import partial_bags, question_of
from milpath.inference.faithfulness.partial_bags import PartialBags
from milpath.models import (
    ACMIL,
    CLAMMB,
    CLAMSB,
    DSMIL,
    DTFDMIL,
    ILRAMIL,
    AdditiveMIL,
    AttentionMIL,
    EmbeddingPoolMIL,
    InstancePoolMIL,
    MultiHeadAttentionMIL,
    TransMIL,
)
from milpath.models.averaged_network import AveragedNetwork
from milpath.targets import target_named
from tests.inference.faithfulness.bags_with_truth import CARD

NETWORKS = [
    ACMIL, AdditiveMIL, AttentionMIL, CLAMMB, CLAMSB, DSMIL, DTFDMIL, EmbeddingPoolMIL, ILRAMIL, InstancePoolMIL,
    MultiHeadAttentionMIL, TransMIL,
]  # fmt: skip
FEATURES = {"name": "linear", "num_features": 8, "hidden_dims": [16]}


def built(kind):
    torch.manual_seed(0)
    return kind(encoder=dict(FEATURES)).eval()


@pytest.mark.parametrize("kind", NETWORKS, ids=lambda kind: kind.__name__)
def test_a_part_of_a_bag_is_predicted_as_a_bag_of_these_tiles(kind, monkeypatch):
    monkeypatch.setattr(partial_bags, "BATCH_BYTES", 4 * 16 * 20)  # 20 tiles at a time
    network, tiles = built(kind), torch.randn(1, 7, 8)
    parts = [np.array([0]), np.array([5, 2, 1]), np.arange(7), np.array([6, 0, 1, 2, 3])]
    question = question_of(CARD)
    with torch.no_grad():
        explained = question.explained(network(tiles).logits)
        expected = torch.cat([question.values(network(tiles[:, np.sort(part)]).logits, explained) for part in parts])
    found = PartialBags(network, tiles).values(iter(parts), question, explained)
    np.testing.assert_allclose(found, expected.numpy(), atol=2e-5)


def test_a_part_is_the_bag_with_the_other_tiles_masked():
    network, tiles = built(AttentionMIL), torch.randn(1, 7, 8)
    mask = torch.tensor([[True, False, True, True, False, True, False]])
    question = question_of(CARD)
    with torch.no_grad():
        explained = question.explained(network(tiles).logits)
        expected = question.values(network(tiles, mask).logits, explained)
    found = PartialBags(network, tiles).values([np.flatnonzero(mask[0].numpy())], question, explained)
    np.testing.assert_allclose(found, expected.numpy(), atol=1e-6)


def test_the_encoder_sees_each_tile_once():
    network, tiles = built(AttentionMIL), torch.randn(1, 7, 8)
    seen = []
    network.tile_encoder.register_forward_hook(lambda module, given, output: seen.append(given[0].shape[1]))
    bag, question = PartialBags(network, tiles), question_of(CARD)
    with torch.no_grad():
        explained = question.explained(bag.output(bag.embeddings).logits)
    bag.values([np.arange(size) for size in range(1, 7)], question, explained)
    assert seen == [7]


def test_the_parts_of_an_average_are_averages():
    first, second = built(AttentionMIL), built(AdditiveMIL)
    target = target_named("binary")
    network = AveragedNetwork([first, second], [target, target], [1.0, 2.0]).eval()
    tiles, question = torch.randn(1, 7, 8), question_of(CARD)
    bag = PartialBags(network, tiles)
    assert len(bag.embeddings) == 2
    part = np.array([1, 4, 6])
    with torch.no_grad():
        explained = question.explained(network(tiles).logits)
        expected = question.values(network(tiles[:, part]).logits, explained)
    np.testing.assert_allclose(bag.values([part], question, explained), expected.numpy(), atol=1e-6)
