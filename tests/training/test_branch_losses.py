import math
from itertools import combinations

import pytest
import torch

from milpath.models import ACMIL, DTFDMIL, AttentionMIL
from milpath.training.branch_losses import acmil_loss, pseudo_bag_loss

LINEAR = {"name": "linear", "num_features": 6, "hidden_dims": [8]}


@pytest.fixture
def batch():
    generator = torch.Generator().manual_seed(0)
    mask = torch.tensor([[True] * 9, [True] * 3 + [False] * 6, [True] + [False] * 8])
    return torch.randn(3, 9, 6, generator=generator), mask, torch.tensor([1, 0, 1])


def outputs_of(network, batch):
    tiles, mask, labels = batch
    torch.manual_seed(0)
    embeddings = network.encode(tiles, mask)
    return embeddings, mask, network.aggregate(embeddings, mask), labels


def cross_entropy(logit: float, label: int) -> float:
    return math.log(1 + math.exp(-logit if label else logit))


def cosine(a: list[float], b: list[float]) -> float:
    inner = sum(x * y for x, y in zip(a, b, strict=True))
    return inner / math.sqrt(sum(x * x for x in a) * sum(y * y for y in b))


@pytest.mark.parametrize("training", [True, False])
def test_the_loss_of_acmil_equals_a_loop_over_bags_branches_and_pairs(batch, training):
    network = ACMIL(encoder=LINEAR, hidden_dim=8, attention_dim=4, num_branches=3, num_masked=5).train(training)
    embeddings, mask, output, labels = outputs_of(network, batch)
    branches = sum(
        cross_entropy(output.branch_logits[bag, branch].item(), int(labels[bag]))
        for bag in range(3)
        for branch in range(3)
    )
    attention = output.branch_attention.tolist()
    similarity = sum(
        cosine(attention[bag][a], attention[bag][b]) for bag in range(3) for a, b in combinations(range(3), 2)
    )
    loss = acmil_loss(network, embeddings, mask, output, labels, weight=2.0, diversity_weight=0.5)
    assert loss.item() == pytest.approx(2 * branches / 9 + 0.5 * similarity / 9, abs=1e-5)


def test_the_loss_of_pseudo_bags_equals_a_loop_over_those_that_have_tiles(batch):
    network = DTFDMIL(encoder=LINEAR, hidden_dim=8, attention_dim=4, num_pseudo_bags=4).train()
    embeddings, mask, output, labels = outputs_of(network, batch)
    expected = 0.0
    for bag, count in enumerate((4, 3, 1)):
        filled = [m for m in range(4) if output.branch_attention[bag, m].sum() > 0]
        assert len(filled) == count
        losses = [cross_entropy(output.branch_logits[bag, m].item(), int(labels[bag])) for m in filled]
        expected += sum(losses) / count / 3
    loss = pseudo_bag_loss(network, embeddings, mask, output, labels)
    assert loss.item() == pytest.approx(expected, abs=1e-5)


@pytest.mark.parametrize(
    ("network", "loss", "part"),
    [
        (ACMIL(encoder=LINEAR, hidden_dim=8, num_outputs=2), acmil_loss, "branch_layers"),
        (DTFDMIL(encoder=LINEAR, hidden_dim=8, num_outputs=2), pseudo_bag_loss, "pseudo_bag_layer"),
    ],
    ids=["acmil", "dtfd"],
)
def test_the_loss_trains_the_part_that_the_logits_do_not_reach(batch, network, loss, part):
    loss(network, *outputs_of(network.train(), batch), task="nominal").backward()
    assert network.auxiliary_parts == (part,)
    gradients = {name: value.grad for name, value in network.named_parameters()}
    assert all(
        gradients[name].abs().sum() > 0 for name in gradients if name.startswith(part) and name.endswith("weight")
    )
    assert gradients["attention_pooling.score_layer.weight"].abs().sum() > 0
    assert gradients["classification_layer.weight"] is None
    assert all(value is None or torch.isfinite(value).all() for value in gradients.values())


@pytest.mark.parametrize("kind", [ACMIL, DTFDMIL])
def test_a_process_without_a_bag_in_a_step_has_a_loss_and_gradients_of_nothing(batch, kind):
    network = kind(encoder=LINEAR, hidden_dim=8).train()
    tiles, mask, labels = batch
    loss = {ACMIL: acmil_loss, DTFDMIL: pseudo_bag_loss}[kind]
    value = loss(network, *outputs_of(network, (tiles[:0], mask[:0], labels[:0])))
    value.backward()
    assert value.item() == 0
    assert not any(parameter.grad.any() for parameter in network.parameters() if parameter.grad is not None)


def test_a_network_without_branches_is_refused_with_the_way_out(batch):
    network = AttentionMIL(encoder=LINEAR)
    with pytest.raises(ValueError, match="needs a network with branches; set model=acmil or model=dtfd_mil"):
        acmil_loss(network, *outputs_of(network, batch))
