"""Networks with heads, branches or tiers against their formulas, written once more in numpy with loops."""

import math

import numpy as np
import pytest
import torch

from milpath.models import (
    ACMIL,
    CLAMMB,
    DTFDMIL,
    ILRAMIL,
    AdditiveMIL,
    AttentionEnsembleMIL,
    AttentionMIL,
    MultiHeadAttentionMIL,
)
from milpath.models.networks.acmil import hide_strongest
from milpath.models.networks.dtfd_mil import deal, deal_alike
from tests.models.formulas import BAGS, LINEAR, apply, batch, check, sigmoid, softmax, weights


@pytest.fixture(autouse=True)
def equal_weights_in_every_run():
    torch.manual_seed(0)


def gated_scores(pooling, hidden: np.ndarray) -> np.ndarray:
    """Scores of each tile in rows, one column per score."""
    rows = []
    for tile in hidden:
        gate = np.tanh(apply(pooling.tanh_layer, tile)) * sigmoid(apply(pooling.gate_layer, tile))
        rows.append(apply(pooling.score_layer, gate))
    return np.array(rows)


def relu(values: np.ndarray) -> np.ndarray:
    return np.maximum(values, 0)


def test_multi_head_attention():
    def formula(network, hidden):
        hidden = relu(apply(network.hidden_layers[0], hidden))
        pooled, attention = [], []
        for number, head in enumerate(network.attention_heads):
            part = hidden[:, 4 * number : 4 * number + 4]
            weight = softmax(gated_scores(head, part)[:, 0])
            pooled += list(sum(w * row for w, row in zip(weight, part, strict=True)))
            attention.append(weight)
        return apply(network.classification_layer, np.array(pooled)), np.mean(attention, 0)

    check(MultiHeadAttentionMIL(encoder=LINEAR, num_outputs=2, hidden_dim=12, num_heads=3), formula)


def test_heads_that_do_not_divide_the_width_are_refused():
    with pytest.raises(ValueError, match="hidden_dim=10 must be a multiple of num_heads=3"):
        MultiHeadAttentionMIL(encoder=LINEAR, hidden_dim=10, num_heads=3)


@pytest.mark.parametrize("gated", [False, True])
def test_an_ensemble_is_the_mean_of_networks_of_attention(gated):
    network = AttentionEnsembleMIL(encoder=LINEAR, num_outputs=2, num_members=3, gated=gated).double().eval()
    tiles, mask = batch()
    output = network(tiles, mask)
    members = [AttentionMIL(encoder=LINEAR, num_outputs=2, gated=gated).double().eval() for _ in range(3)]
    for number, member in enumerate(members):
        layers = {
            "tile_encoder.network.layers.0": network.tile_encoder.network.layers[0],
            "classification_layer": network.classification_layer,
            **{f"attention_pooling.{name}": getattr(network, name) for name in ("tanh_layer", "score_layer")},
            **({"attention_pooling.gate_layer": network.gate_layer} if gated else {}),
        }
        for name, layer in layers.items():
            values = {"weight": layer.weight[number].T, "bias": layer.bias[number, 0]}
            member.get_submodule(name).load_state_dict(values)
    each = [member(tiles, mask) for member in members]
    torch.testing.assert_close(output.member_logits, torch.stack([one.logits for one in each], 1))
    torch.testing.assert_close(output.logits, torch.stack([one.logits for one in each]).mean(0))
    torch.testing.assert_close(output.attention, torch.stack([one.attention for one in each]).mean(0))


def test_members_share_an_encoder_that_is_not_of_linear_layers():
    network = AttentionEnsembleMIL(encoder="lenet5", num_members=2).eval()
    assert network.tanh_layer.weight.shape == (2, 500, 128)
    assert network(torch.rand(1, 3, 1, 28, 28)).attention.sum().item() == pytest.approx(1)


def test_an_ensemble_without_a_member_is_refused():
    with pytest.raises(ValueError, match="num_members=0 of an ensemble must be at least 1"):
        AttentionEnsembleMIL(encoder=LINEAR, num_members=0)


def class_scores(network, hidden: np.ndarray) -> tuple[list[float], np.ndarray]:
    hidden = relu(apply(network.hidden_layers[0], hidden))
    attention = softmax(gated_scores(network.attention_pooling, hidden))
    matrix, bias = weights(network.classification_layer)
    scores = [float(matrix[c] @ (attention[:, c] @ hidden) + bias[c]) for c in range(len(matrix))]
    return scores, attention


def test_clam_with_a_branch_per_class():
    def formula(network, hidden):
        scores, attention = class_scores(network, hidden)
        return scores, attention.mean(1)

    network = CLAMMB(encoder=LINEAR, num_outputs=3, hidden_dim=8, attention_dim=3)
    check(network, formula)
    tiles, mask = batch()
    found = network(tiles, mask).class_attention
    for index, bag in enumerate(BAGS):
        hidden = relu(apply(network.tile_encoder.network.layers[0], bag))
        np.testing.assert_allclose(found[index, :, : len(bag)].detach().T, class_scores(network, hidden)[1], atol=1e-10)


@pytest.mark.parametrize(("num_outputs", "num_classes"), [(1, None), (3, 4)])
def test_clam_with_a_logit_fewer_than_classes_is_cumulative_over_the_same_softmax(num_outputs, num_classes):
    def formula(network, hidden):
        scores, attention = class_scores(network, hidden)
        share = np.exp(scores) / np.exp(scores).sum()
        above = [share[k + 1 :].sum() for k in range(num_outputs)]
        return [math.log(p / (1 - p)) for p in above], attention.mean(1)

    check(
        CLAMMB(encoder=LINEAR, num_outputs=num_outputs, num_classes=num_classes, hidden_dim=8, attention_dim=3), formula
    )


def test_a_number_of_classes_that_does_not_fit_the_logits_is_refused():
    with pytest.raises(ValueError, match="num_classes=5 does not fit 3 logits; it must be 4"):
        CLAMMB(encoder=LINEAR, num_outputs=3, num_classes=5)


def test_acmil_in_evaluation():
    def formula(network, hidden):
        hidden = relu(apply(network.hidden_layers[0], hidden))
        branches = softmax(gated_scores(network.attention_pooling, hidden))
        attention = branches.mean(1)
        return apply(network.classification_layer, attention @ hidden), attention

    network = ACMIL(encoder=LINEAR, num_outputs=2, hidden_dim=8, attention_dim=3, num_branches=3)
    check(network, formula)
    tiles, mask = batch()
    output = network(tiles, mask)
    for index, bag in enumerate(BAGS):
        hidden = relu(apply(network.tile_encoder.network.layers[0], bag))
        hidden = relu(apply(network.hidden_layers[0], hidden))
        branches = softmax(gated_scores(network.attention_pooling, hidden))
        for number, layer in enumerate(network.branch_layers):
            expected = apply(layer, branches[:, number] @ hidden)
            np.testing.assert_allclose(output.branch_logits[index, number].detach(), expected, atol=1e-10)


def test_acmil_hides_a_share_of_the_strongest_tiles_of_each_branch_in_training():
    network = ACMIL(
        encoder=LINEAR, hidden_dim=8, attention_dim=3, num_branches=3, num_masked=5, mask_share=0.6
    ).double()
    tiles, mask = torch.randn(2, 9, 5, dtype=torch.float64), torch.arange(9).expand(2, 9) < torch.tensor([[9], [3]])
    whole = network.eval()(tiles, mask).branch_attention
    seen = torch.zeros(2, 3, 9)
    for _ in range(200):
        part = network.train()(tiles, mask).branch_attention
        hidden = (part == 0) & mask[:, None]
        # floor(0.6 * 5) of nine tiles, floor(0.6 * 3) of three.
        assert hidden[0].sum(1).tolist() == [3, 3, 3]
        assert hidden[1].sum(1).tolist() == [1, 1, 1]
        seen += hidden
        rest = torch.where(hidden, 0, whole)
        torch.testing.assert_close(part, rest / rest.sum(2, keepdim=True))
    strongest = whole[0].argsort(1, descending=True)[:, :5]
    assert (seen[0].gather(1, strongest) > 80).all()
    assert seen[0].sum() == seen[0].gather(1, strongest).sum()
    assert not torch.equal(seen[0, 0], seen[0, 1])


def test_a_bag_of_one_tile_keeps_it():
    scores, real = torch.zeros(1, 2, 4), torch.tensor([[[True, False, False, False]]]).expand(1, 2, 4)
    assert not hide_strongest(scores, real, 10, 0.99).any()


def pseudo_bags(scores: np.ndarray, count: int) -> np.ndarray:
    """The part of each tile in each pseudo-bag that has tiles."""
    group_of = {tile: rank % count for rank, tile in enumerate(sorted(range(len(scores)), key=lambda k: -scores[k]))}
    parts = np.zeros((count, len(scores)))
    for k, j in np.ndindex(len(scores), len(scores)):
        parts[group_of[j], k] += max(0.0, 1 - abs(scores[k] - scores[j]) / 0.1)
    parts /= parts.sum(0)
    return parts[parts.sum(1) > 0]


@pytest.mark.parametrize("sharpness", [1.0, 20.0], ids=["similar scores", "scores apart"])
def test_dtfd_in_evaluation(sharpness):
    def formula(network, hidden):
        hidden = relu(apply(network.hidden_layers[0], hidden))
        scores = gated_scores(network.attention_pooling, hidden)[:, 0]
        parts = pseudo_bags(scores, 3)
        first = [part * np.exp(scores) / (part @ np.exp(scores)) for part in parts]
        pooled = np.array([weight @ hidden for weight in first])
        second = softmax(gated_scores(network.bag_pooling, pooled)[:, 0])
        attention = sum(share * weight for share, weight in zip(second, first, strict=True))
        return apply(network.classification_layer, second @ pooled), attention

    network = DTFDMIL(encoder=LINEAR, num_outputs=2, hidden_dim=8, attention_dim=3, num_pseudo_bags=3)
    torch.nn.init.normal_(network.attention_pooling.score_layer.weight, std=sharpness)
    check(network, formula)


def test_dealing_by_scores_that_are_apart_is_dealing_by_rank():
    scores, mask = torch.tensor([[0.3, 9.0, 0.1, 2.2]]), torch.tensor([[True, False, True, True]])
    assert torch.equal(deal_alike(scores, mask, 2), deal(scores, mask, 2).float())


def test_dealing_is_continuous_where_two_scores_cross():
    mask = torch.ones(1, 3, dtype=torch.bool)
    before, after = (deal_alike(torch.tensor([[1.0, 1.0 + step, 0.0]]), mask, 2) for step in (-1e-6, 1e-6))
    torch.testing.assert_close(before, after, atol=1e-4, rtol=0)
    assert before[0, 0].tolist() == pytest.approx([0.5, 0.5, 1.0], abs=1e-4)


def test_dtfd_deals_at_random_in_training_and_every_tile_once():
    network = DTFDMIL(encoder=LINEAR, hidden_dim=8, attention_dim=3, num_pseudo_bags=3).train()
    tiles, mask = torch.randn(2, 8, 5), torch.arange(8).expand(2, 8) < torch.tensor([[8], [2]])
    deals = set()
    for _ in range(20):
        members = network(tiles, mask).branch_attention > 0
        assert torch.equal(members.sum(1), mask.long())
        assert sorted(members[0].sum(1).tolist()) == [2, 3, 3]
        assert sorted(members[1].sum(1).tolist()) == [0, 1, 1]
        deals.add(tuple(members[0].long().argmax(0).tolist()))
    assert len(deals) > 15


def test_dealing_does_not_look_at_padding():
    keys = torch.tensor([[0.3, 9.0, 0.1, 0.2]])
    members = deal(keys, torch.tensor([[True, False, True, True]]), 2)
    assert members.int().tolist() == [[[1, 0, 1, 0], [0, 0, 0, 1]]]


def latent_attention(layer, queries: np.ndarray, keys: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    projected = apply(layer.query_layer, queries)
    inputs = projected, apply(layer.key_layer, keys), apply(layer.value_layer, keys)
    query, key, value = (apply(part, found) for part, found in zip(layer.head_layers, inputs, strict=True))
    width = query.shape[1] // layer.num_heads
    mixed, shares = np.zeros_like(query), np.zeros((len(queries), len(keys)))
    for head in range(layer.num_heads):
        of_head = slice(head * width, (head + 1) * width)
        for row in range(len(queries)):
            weight = softmax(key[:, of_head] @ query[row, of_head] / math.sqrt(width))
            shares[row] += weight / layer.num_heads
            mixed[row, of_head] = weight @ value[:, of_head]
    result = projected + apply(layer.mixing_layer, mixed)
    result = result + relu(apply(layer.residual_layer, result))
    if layer.gate_layer is not None:
        gate = apply(layer.gate_layer, queries)
        result = result * gate * sigmoid(gate)
    return result, shares


def test_ilra():
    def formula(network, tokens):
        for latents, gather, spread in zip(network.latents, network.gathering, network.spreading, strict=True):
            gathered, _ = latent_attention(gather, latents.detach().numpy()[0], tokens)
            tokens, _ = latent_attention(spread, tokens, gathered)
        pooled, shares = latent_attention(network.pooling, network.pooling_query.detach().numpy()[0], tokens)
        return apply(network.classification_layer, pooled[0]), shares[0]

    check(ILRAMIL(encoder=LINEAR, num_outputs=2, hidden_dim=8, num_heads=2, rank=3), formula)


def test_the_heads_of_ilra_are_those_of_torch():
    network = ILRAMIL(encoder=LINEAR, hidden_dim=8, num_heads=2).double()
    layer = network.pooling
    torchs = torch.nn.MultiheadAttention(8, 2, batch_first=True).double()
    with torch.no_grad():
        torchs.in_proj_weight.copy_(torch.cat([part.weight for part in layer.head_layers]))
        torchs.in_proj_bias.copy_(torch.cat([part.bias for part in layer.head_layers]))
        torchs.out_proj.load_state_dict(layer.mixing_layer.state_dict())
    tokens, mask = torch.randn(2, 5, 8, dtype=torch.float64), torch.tensor([[True] * 5, [True] * 2 + [False] * 3])
    query = network.pooling_query.expand(2, -1, -1)
    projected = layer.query_layer(query)
    mixed, shares = torchs(projected, layer.key_layer(tokens), layer.value_layer(tokens), key_padding_mask=~mask)
    expected = projected + mixed
    expected = expected + torch.relu(layer.residual_layer(expected))
    found, weights_found = layer(query, tokens, mask)
    torch.testing.assert_close(found, expected)
    torch.testing.assert_close(weights_found, shares)


def test_additive():
    def formula(network, hidden):
        pooling = network.attention_pooling
        scores = [apply(pooling.score_layer, np.tanh(apply(pooling.tanh_layer, tile)))[0] for tile in hidden]
        attention = softmax(np.array(scores))
        matrix, bias = weights(network.classification_layer)
        first = network.hidden_layer.weight.detach().numpy()
        # psi of the weighted tile, as in the paper, not the weighted psi of the tile.
        parts = [matrix @ relu(first @ (a * tile)) + a * bias for a, tile in zip(attention, hidden, strict=True)]
        return np.sum(parts, 0), attention

    check(AdditiveMIL(encoder=LINEAR, num_outputs=2, hidden_dim=4), formula)


def test_additive_without_a_hidden_layer_has_the_logits_of_attention():
    additive, attention = (
        AdditiveMIL(encoder=LINEAR, num_outputs=2, hidden_dim=None),
        AttentionMIL(LINEAR, num_outputs=2),
    )
    additive.load_state_dict(attention.state_dict())
    tiles, mask = batch()
    torch.testing.assert_close(additive(tiles.float(), mask).logits, attention(tiles.float(), mask).logits)


def test_a_bag_with_every_tile_twice_has_the_same_logits_and_half_the_contributions():
    network = AdditiveMIL(encoder=LINEAR, num_outputs=1, hidden_dim=4).double().eval()
    once = network(torch.from_numpy(BAGS[0])[None])
    twice = network(torch.from_numpy(np.concatenate([BAGS[0], BAGS[0]]))[None])
    torch.testing.assert_close(twice.logits, once.logits)
    torch.testing.assert_close(twice.contributions[..., :4], once.contributions / 2)
