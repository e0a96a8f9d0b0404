import math

import pytest
import torch

from milpath.models import CLAMMB, CLAMSB, DSMIL
from milpath.training.auxiliary_losses import clustering_loss, max_instance_loss, smooth_svm_loss

LINEAR = {"name": "linear", "num_features": 6, "hidden_dims": [8]}


@pytest.fixture
def batch():
    generator = torch.Generator().manual_seed(0)
    mask = torch.tensor([[True] * 9, [True] * 3 + [False] * 6, [True] + [False] * 8])
    return torch.randn(3, 9, 6, generator=generator), mask, torch.tensor([1, 0, 1])


def test_smooth_svm_equals_its_formula_one_by_one():
    logits, labels = torch.tensor([[0.2, -1.0, 0.7], [2.0, 0.1, -0.3]]), torch.tensor([2, 1])
    expected = [
        math.log(sum(math.exp((j != y) + s[j] - s[y]) for j in range(3)))
        for s, y in zip(logits.tolist(), labels.tolist(), strict=True)
    ]
    torch.testing.assert_close(smooth_svm_loss(logits, labels), torch.tensor(expected))


def test_the_loss_of_the_highest_tile_equals_a_loop_over_bags(batch):
    tiles, mask, labels = batch
    network = DSMIL(encoder=LINEAR).eval()
    embeddings = network.encode(tiles, mask)
    expected = 0.0
    for bag in range(3):
        highest = max(network.instance_logits(embeddings[bag, k]).item() for k in range(9) if mask[bag, k])
        probability = 1 / (1 + math.exp(-highest))
        expected -= math.log(probability if labels[bag] else 1 - probability) / 3
    loss = max_instance_loss(network, embeddings, mask, network.aggregate(embeddings, mask), labels)
    assert loss.item() == pytest.approx(expected, abs=1e-6)


def test_clustering_sees_the_most_and_the_least_attended_tiles_of_each_bag(batch):
    tiles, mask, labels = batch
    network = CLAMSB(encoder=LINEAR, hidden_dim=8, attention_dim=4).eval()
    embeddings = network.encode(tiles, mask)
    output = network.aggregate(embeddings, mask)
    expected = []
    for bag, count in enumerate((3, 1, 1)):
        real = [k for k in range(9) if mask[bag, k]]
        ranked = sorted(real, key=lambda k: -output.attention[bag, k].item())
        losses = []
        for position, tile in enumerate(ranked):
            inside, outside = position < count, position >= max(count, len(ranked) - count)
            if inside or outside:
                out, member = network.instance_logits(embeddings[bag, tile], int(labels[bag])).tolist()
                right, wrong = (member, out) if inside else (out, member)
                losses.append(math.log(1 + math.exp(1 + wrong - right)))
        expected.append(sum(losses) / len(losses))
    loss = clustering_loss(network, embeddings, mask, output, labels, num_sampled=3, weight=2.0)
    assert loss.item() == pytest.approx(2 * sum(expected) / 3, abs=1e-5)


def test_clustering_trains_the_instance_classifiers_of_the_labels_seen_and_not_the_attention(batch):
    tiles, mask, labels = batch
    network = CLAMSB(encoder=LINEAR, hidden_dim=8, attention_dim=4)
    embeddings = network.encode(tiles, mask)
    clustering_loss(network, embeddings, mask, network.aggregate(embeddings, mask), labels).backward()
    assert all(layer.weight.grad is not None for layer in network.instance_layers)
    assert all(value.grad is None for value in network.attention_pooling.parameters())


def test_classes_that_exclude_each_other_teach_the_other_classifiers_too(batch):
    tiles, mask, _ = batch
    labels = torch.tensor([0, 0, 0])
    network = CLAMSB(encoder=LINEAR, hidden_dim=8, attention_dim=4, num_outputs=3).eval()
    embeddings = network.encode(tiles, mask)
    output = network.aggregate(embeddings, mask)
    inside = clustering_loss(network, embeddings, mask, output, labels, num_sampled=3, weight=1.0)
    both = clustering_loss(network, embeddings, mask, output, labels, num_sampled=3, weight=1.0, out_of_class=True)
    expected = []
    for bag, count in enumerate((3, 1, 1)):
        ranked = sorted((k for k in range(9) if mask[bag, k]), key=lambda k: -output.attention[bag, k].item())
        for other in (1, 2):
            pairs = [network.instance_logits(embeddings[bag, tile], other).tolist() for tile in ranked[:count]]
            expected.append(sum(math.log(1 + math.exp(1 + member - out)) for out, member in pairs) / count)
    # Of three classifiers one sees its own class, two see another.
    assert both.item() == pytest.approx((inside.item() + 2 * sum(expected) / len(expected)) / 3, abs=1e-5)


def test_a_class_without_an_instance_classifier_is_said_with_the_way_out(batch):
    tiles, mask, labels = batch
    network = CLAMSB(encoder=LINEAR, num_outputs=2)
    embeddings = network.encode(tiles, mask)
    output = network.aggregate(embeddings, mask)
    with pytest.raises(ValueError, match=r"class 2 has no instance classifier: .* set model\.num_instance_classes"):
        clustering_loss(network, embeddings, mask, output, labels + 1)
    ordinal = CLAMSB(encoder=LINEAR, num_outputs=2, num_instance_classes=3)
    embeddings = ordinal.encode(tiles, mask)
    assert clustering_loss(ordinal, embeddings, mask, ordinal.aggregate(embeddings, mask), labels + 1).item() > 0


@pytest.mark.parametrize("out_of_class", [False, True])
def test_with_attention_per_class_each_classifier_gets_the_tiles_of_its_class(batch, out_of_class):
    tiles, mask, labels = batch
    network = CLAMMB(encoder=LINEAR, hidden_dim=8, attention_dim=4, num_outputs=3).eval()
    embeddings = network.encode(tiles, mask)
    output = network.aggregate(embeddings, mask)
    expected = []
    for bag, count in enumerate((3, 1, 1)):
        of_classes = []
        for number in range(3) if out_of_class else [int(labels[bag])]:
            weights = output.class_attention[bag, number]
            ranked = sorted((k for k in range(9) if mask[bag, k]), key=lambda k: -weights[k].item())
            chosen = [(tile, number == int(labels[bag])) for tile in ranked[:count]]
            if number == int(labels[bag]):
                chosen += [(tile, False) for tile in ranked[count:][-count:]]
            losses = []
            for tile, inside in chosen:
                out, member = network.instance_logits(embeddings[bag, tile], number).tolist()
                losses.append(math.log(1 + math.exp(1 + (out - member if inside else member - out))))
            of_classes.append(sum(losses) / len(losses))
        expected.append(sum(of_classes) / len(of_classes))
    loss = clustering_loss(
        network, embeddings, mask, output, labels, num_sampled=3, weight=1.0, out_of_class=out_of_class
    )
    assert loss.item() == pytest.approx(sum(expected) / 3, abs=1e-5)


def test_a_label_without_a_branch_names_the_option_of_the_network(batch):
    tiles, mask, labels = batch
    network = CLAMMB(encoder=LINEAR, num_outputs=2)
    embeddings = network.encode(tiles, mask)
    with pytest.raises(ValueError, match=r"class 2 has no instance classifier: .* set model\.num_classes"):
        clustering_loss(network, embeddings, mask, network.aggregate(embeddings, mask), labels + 1)


@pytest.mark.parametrize(
    ("network", "loss"), [(CLAMSB(encoder=LINEAR), clustering_loss), (DSMIL(encoder=LINEAR), max_instance_loss)]
)
def test_a_process_without_a_bag_in_a_step_has_a_loss_and_gradients_of_nothing(batch, network, loss):
    tiles, mask, labels = (part[:0] for part in batch)
    embeddings = network.encode(tiles, mask)
    output = network.aggregate(embeddings, mask)
    extra = loss(network, embeddings, mask, output, labels)
    # As in a training step: the loss of each bag and the extra, over no bags.
    (output.logits.sum(1) + extra).sum().backward()
    assert not any(value.grad.any() for value in network.parameters() if value.grad is not None)
