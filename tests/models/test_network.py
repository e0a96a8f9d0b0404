"""Tests of the base class of networks."""

import pytest
import torch

from milpath import models
from milpath.models import AttentionMIL, network
from milpath.models.network import MILNetwork
from tests.models.test_contract import NETWORKS, make

LENGTHS = (7, 3, 5)
DETAILS = (
    "class_attention", "contributions", "branch_logits", "branch_attention", "target_attention", "member_logits",
)  # fmt: skip


class Seen(AttentionMIL):
    """Attention that notes the shapes of what it aggregates."""

    separates_bags = True

    def aggregate(self, embeddings, mask=None):
        self.shapes = [*getattr(self, "shapes", []), tuple(embeddings.shape)]
        return super().aggregate(embeddings, mask)


class Undeclared(Seen):
    """A subclass that does not say whether it computes bags separately."""

    aggregate = Seen.aggregate


def padded(lengths, num_features):
    mask = torch.arange(max(lengths)) < torch.tensor(lengths)[:, None]
    tiles = torch.randn(*mask.shape, num_features, generator=torch.Generator().manual_seed(1))
    return tiles.masked_fill(~mask[..., None], 0), mask


def seen_shapes(network, tiles, mask):
    network.shapes = []
    network(tiles, mask)
    return network.shapes


def answers_and_gradients(case, training, num_outputs):
    torch.manual_seed(3)
    built = make(case, num_outputs).train(training)
    output = built(*padded(LENGTHS, 12))
    output.logits.square().sum().backward()
    fields = {name: getattr(output, name, None) for name in ("logits", "attention", *DETAILS)}
    gradients = {name: parameter.grad for name, parameter in built.named_parameters()}
    return {name: value for name, value in (fields | gradients).items() if value is not None}


@pytest.mark.parametrize("case", NETWORKS)
@pytest.mark.parametrize("training", [False, True])
def test_long_bags_one_after_another_get_the_output_and_gradient_of_a_padded_batch(case, training, monkeypatch):
    together = answers_and_gradients(case, training, 2)
    monkeypatch.setattr(network, "_LONG_BAG", 1)
    separately = answers_and_gradients(case, training, 2)
    assert separately.keys() == together.keys()
    for name, value in together.items():
        torch.testing.assert_close(
            separately[name], value, atol=1e-6, rtol=1e-5, msg=lambda text, name=name: f"{name}: {text}"
        )


def test_only_networks_whose_randomness_is_more_than_dropout_are_computed_together():
    kinds = {case.split()[0] for case in NETWORKS}
    assert {kind for kind in kinds if not vars(getattr(models, kind)).get("separates_bags")} == {"ACMIL", "DTFDMIL"}


def test_padding_of_long_bags_is_neither_encoded_nor_aggregated():
    tiles, mask = padded((1100, 1200), 1024)
    built = Seen({"name": "linear", "num_features": 1024, "hidden_dims": [4]}).eval()
    assert seen_shapes(built, tiles, mask) == [(1, 1100, 4), (1, 1200, 4)]
    assert seen_shapes(built, tiles, None) == [(2, 1200, 4)]


@pytest.mark.parametrize("kind", ["short", "dropout", "undeclared", "padding first", "batch norm"])
def test_bags_stay_together_where_separate_ones_would_be_slower_or_another_computation(kind, monkeypatch):
    monkeypatch.setattr(network, "_LONG_BAG", 100 if kind == "short" else 1)
    tiles, mask = padded(LENGTHS, 12)
    encoder = {"name": "linear", "num_features": 12, "dropout": 0.5 if kind == "dropout" else 0.0}
    if kind == "batch norm":
        encoder = {"name": torch.nn.Sequential(torch.nn.Linear(12, 512), torch.nn.BatchNorm1d(512))}
    if kind == "padding first":
        tiles, mask = tiles.flip(1), mask.flip(1)
    built = (Undeclared if kind == "undeclared" else Seen)(encoder).train()
    assert seen_shapes(built, tiles, mask) == [(3, 7, 512)]


def test_a_long_bag_without_a_tile_is_refused_as_in_any_batch(monkeypatch):
    monkeypatch.setattr(network, "_LONG_BAG", 1)
    tiles, mask = padded((7, 3), 12)
    mask[1] = False
    with pytest.raises(ValueError, match="bag 1 of the batch has no real tile"):
        make("AttentionMIL")(tiles, mask)


def test_a_network_must_define_its_aggregation():
    with pytest.raises(TypeError, match=r"MILNetwork must define aggregate\(embeddings, mask\)"):
        MILNetwork({"name": "linear", "num_features": 12}, 1)(*padded(LENGTHS, 12))
