"""What every network promises, tested on every network and every encoder."""

import inspect

import pytest
import torch

from milpath import models
from milpath.models import MILOutput, load_network, save_network
from milpath.models.encoders import TORCHVISION_BACKBONES
from milpath.models.network import MILNetwork

FEATURES = {"name": "linear", "num_features": 12, "hidden_dims": [32]}
NETWORKS = {
    "AttentionMIL": {},
    "AttentionMIL gated": {"gated": True},
    "EmbeddingPoolMIL mean": {"pooling": "mean"},
    "EmbeddingPoolMIL max": {"pooling": "max"},
    "EmbeddingPoolMIL log_sum_exp": {"pooling": "log_sum_exp"},
    "InstancePoolMIL mean": {"pooling": "mean"},
    "InstancePoolMIL max": {"pooling": "max"},
    "InstancePoolMIL log_sum_exp": {"pooling": "log_sum_exp", "sharpness": 2.0},
    "DSMIL": {},
    "CLAMSB": {"hidden_dim": 16, "attention_dim": 8},
    "TransMIL": {"hidden_dim": 32, "num_landmarks": 16},
    "AttentionEnsembleMIL": {"num_members": 3},
    "AttentionEnsembleMIL gated": {"num_members": 2, "gated": True, "attention_dim": 8},
    "MultiHeadAttentionMIL": {"hidden_dim": 16, "num_heads": 4, "attention_dim": 8},
    "CLAMMB": {"hidden_dim": 16, "attention_dim": 8},
    "ACMIL": {"hidden_dim": 16, "attention_dim": 8, "num_branches": 3, "num_masked": 4},
    "DTFDMIL": {"hidden_dim": 16, "attention_dim": 8, "num_pseudo_bags": 3},
    "ILRAMIL": {"hidden_dim": 16, "num_heads": 4, "rank": 2},
    "AdditiveMIL": {"hidden_dim": 8},
    "FeatherMIL": {"attention_dim": 8},
}
ENCODERS = {
    "tile_cnn": ({"name": "tile_cnn", "tile_size": 24, "embedding_dim": 16}, (3, 24, 24)),
    "lenet5": ("lenet5", (1, 28, 28)),
    "linear": (FEATURES, (12,)),
    "efficientnet_lite0": ({"name": "efficientnet_lite0"}, (3, 32, 32)),
    **{name: ({"name": name}, (3, 32, 32)) for name in TORCHVISION_BACKBONES},
}


def make(case: str, num_outputs: int = 1, encoder=FEATURES) -> MILNetwork:
    torch.manual_seed(0)
    name = case.split()[0]
    return getattr(models, name)(encoder=encoder, num_outputs=num_outputs, **NETWORKS[case])


@pytest.fixture(params=NETWORKS, ids=lambda case: case.replace(" ", "_"))
def case(request) -> str:
    return request.param


@pytest.fixture
def bags() -> torch.Tensor:
    return torch.randn(3, 7, 12, generator=torch.Generator().manual_seed(1))


def test_every_network_of_the_library_is_tested_here():
    networks = {name for name in models.__all__ if inspect.isclass(getattr(models, name))} - {
        "MILOutput",
        "DetailedMILOutput",
    }
    assert networks == {case.split()[0] for case in NETWORKS}


@pytest.mark.parametrize("num_outputs", [1, 6])
def test_the_output_is_whole_and_attention_is_a_normalised_weight(case, bags, num_outputs):
    output = make(case, num_outputs).eval()(bags)
    assert isinstance(output, MILOutput)
    assert output.logits.shape == (3, num_outputs)
    assert output.attention.shape == (3, 7)
    assert (output.attention >= 0).all()
    torch.testing.assert_close(output.attention.sum(1), torch.ones(3))


# All but TransMIL, whose position encoding reads the order of tiles, by design of its authors.
@pytest.mark.parametrize("case", [case for case in NETWORKS if case != "TransMIL"])
def test_the_order_of_tiles_changes_nothing(case, bags):
    network = make(case).eval()
    order = torch.tensor([3, 0, 6, 1, 5, 2, 4])
    straight, turned = network(bags), network(bags[:, order])
    torch.testing.assert_close(turned.logits, straight.logits, atol=1e-6, rtol=0)
    torch.testing.assert_close(turned.attention, straight.attention[:, order], atol=1e-6, rtol=0)


@pytest.mark.parametrize("case", [case for case in NETWORKS if case != "TransMIL"])
def test_neither_order_nor_padding_changes_the_answer_for_a_slide_of_many_tiles(case):
    # Among thousands of tiles many have nearly equal scores: a choice by rank would hang on rounding errors.
    generator = torch.Generator().manual_seed(2)
    network, bag = make(case, 2).eval(), torch.randn(1, 6000, 12, generator=generator)
    order = torch.randperm(6000, generator=generator)
    straight = network(bag)
    others = torch.randn(2, 7000, 12, generator=generator)
    others[1, :6000] = bag[0, order]
    turned = network(others, torch.arange(7000) < torch.tensor([[7000], [6000]]))
    torch.testing.assert_close(turned.logits[1], straight.logits[0], atol=1e-6, rtol=1e-6)
    torch.testing.assert_close(turned.attention[1, :6000], straight.attention[0, order], atol=1e-6, rtol=0)


def test_padding_changes_nothing_and_gets_no_attention(case, bags):
    network = make(case, 3).eval()
    padded = torch.cat([bags, torch.full((3, 5, 12), 1e4)], 1)
    mask = torch.arange(12).expand(3, 12) < 7
    plain, output = network(bags), network(padded, mask)
    torch.testing.assert_close(output.logits, plain.logits, atol=1e-6, rtol=0)
    torch.testing.assert_close(output.attention[:, :7], plain.attention, atol=1e-6, rtol=0)
    assert (output.attention[:, 7:] == 0).all()


def test_bags_of_different_length_in_a_batch_equal_each_bag_alone(case, bags):
    network = make(case).eval()
    lengths = (7, 1, 4)
    mask = torch.stack([torch.arange(7) < length for length in lengths])
    together = network(bags, mask)
    for index, length in enumerate(lengths):
        alone = network(bags[index : index + 1, :length])
        torch.testing.assert_close(together.logits[index], alone.logits[0], atol=1e-6, rtol=0)
        torch.testing.assert_close(together.attention[index, :length], alone.attention[0], atol=1e-6, rtol=0)


def test_the_gradient_reaches_every_parameter(case, bags):
    network = make(case, 2).train()
    embeddings = network.encode(bags)
    output = network.aggregate(embeddings)
    loss = output.logits.square().sum() + (output.attention * torch.arange(7.0)).sum()
    for label in range(len(getattr(network, "instance_layers", []))):
        loss = loss + network.instance_logits(embeddings[0], label).square().sum()
    if (branch_logits := getattr(output, "branch_logits", None)) is not None:
        loss = loss + branch_logits.square().sum()
    loss.backward()
    without = [
        name for name, value in network.named_parameters() if value.grad is None or not torch.isfinite(value.grad).all()
    ]
    assert without == []


@pytest.mark.parametrize("length", [1, 1044])
def test_a_bag_of_one_tile_and_one_of_a_thousand_are_bags(case, length):
    output = make(case).eval()(torch.randn(1, length, 12))
    assert torch.isfinite(output.logits).all()
    assert output.attention.sum().item() == pytest.approx(1, abs=1e-5)


def test_weights_per_class_keep_the_contract_of_attention(case, bags):
    network = make(case, 3).eval()
    padded = torch.cat([bags, torch.full((3, 5, 12), 1e4)], 1)
    order = torch.tensor([3, 0, 6, 1, 5, 2, 4])
    plain, output, turned = network(bags), network(padded, torch.arange(12).expand(3, 12) < 7), network(bags[:, order])
    logits, attention = output
    assert (logits, attention) == (output.logits, output.attention)
    weights = getattr(output, "class_attention", None)
    assert (weights is not None) == (case in ("CLAMMB", "DSMIL", "InstancePoolMIL max", "InstancePoolMIL log_sum_exp"))
    if weights is not None:
        assert weights.shape == (3, 3, 12)
        assert (weights >= 0).all()
        assert (weights[..., 7:] == 0).all()
        torch.testing.assert_close(weights.sum(2), torch.ones(3, 3))
        torch.testing.assert_close(turned.class_attention, plain.class_attention[..., order], atol=1e-6, rtol=0)
    amounts = getattr(output, "contributions", None)
    assert (amounts is not None) == (case == "AdditiveMIL")
    if amounts is not None:
        assert (amounts[..., 7:] == 0).all()
        torch.testing.assert_close(amounts.sum(2), output.logits, atol=1e-6, rtol=0)
        torch.testing.assert_close(turned.contributions, plain.contributions[..., order], atol=1e-6, rtol=0)


def test_evaluation_draws_no_random_numbers(case, bags):
    network = make(case).eval()
    torch.manual_seed(5)
    first = network(bags)
    state = torch.get_rng_state()
    torch.manual_seed(6)
    assert torch.equal(network(bags).logits, first.logits)
    torch.manual_seed(5)
    assert torch.equal(torch.get_rng_state(), state)


def test_training_is_equal_for_equal_seeds(case, bags):
    network = make(case).train()
    outputs = []
    for _ in range(2):
        torch.manual_seed(5)
        outputs.append(network(bags))
    assert torch.equal(outputs[0].logits, outputs[1].logits)


def test_an_empty_bag_is_refused_by_number(case, bags):
    mask = torch.ones(3, 7, dtype=torch.bool)
    mask[1] = False
    with pytest.raises(ValueError, match="bag 1 of the batch has no real tile"):
        make(case)(bags, mask)
    with pytest.raises(ValueError, match="no real tile"):
        make(case)(bags[:, :0])


@pytest.mark.parametrize("training", [True, False])
def test_a_batch_without_a_bag_gives_an_output_without_a_bag_and_gradients_of_nothing(case, bags, training):
    # The share of a process in a step that has fewer bags than there are processes; the others wait for its gradients.
    network = make(case, num_outputs=2).train(training)
    output = network(bags[:0, :1])
    assert output.logits.shape == (0, 2)
    assert output.attention.shape == (0, 1)
    output.logits.sum().backward()
    for name, value in network.named_parameters():
        only_auxiliary = name.startswith(network.auxiliary_parts)
        assert only_auxiliary == (value.grad is None), name
        assert only_auxiliary or not value.grad.any(), name


def test_a_mask_that_does_not_fit_is_refused(case, bags):
    with pytest.raises(ValueError, match=r"mask must be bool of shape \(3, 7\)"):
        make(case)(bags, torch.ones(3, 7))


@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float16])
@pytest.mark.parametrize("whole", [True, False], ids=["half", "autocast"])
def test_half_precision_keeps_attention_a_weight(case, dtype, whole):
    network = make(case, 2).eval()
    bags = torch.randn(2, 301, 12, generator=torch.Generator().manual_seed(1))
    exact = network(bags)
    if whole:
        output = network.to(dtype)(bags.to(dtype))
        assert output.logits.dtype == dtype
    else:
        with torch.autocast("cpu", dtype=dtype):
            output = network(bags)
    assert output.attention.dtype == torch.float32
    torch.testing.assert_close(output.attention.sum(1), torch.ones(2), atol=1e-6, rtol=0)
    # bfloat16 has 8 bits of mantissa, float16 11.
    torch.testing.assert_close(
        output.logits.float(), exact.logits, atol=0.03 if dtype == torch.bfloat16 else 0.006, rtol=0
    )


@pytest.mark.parametrize("name", ["tile_cnn", "lenet5", "resnet18", "efficientnet_lite0"])
def test_encoders_work_in_half_precision(name):
    encoder, shape = ENCODERS[name]
    network = make("AttentionMIL", encoder=encoder).eval()
    tiles, mask = torch.rand(2, 3, *shape), torch.tensor([[True, True, True], [True, False, False]])
    exact = network(tiles, mask)
    with torch.autocast("cpu", dtype=torch.bfloat16):
        output = network(tiles, mask)
    torch.testing.assert_close(output.logits.float(), exact.logits, atol=0.05, rtol=0.05)
    assert output.attention.sum(1).tolist() == pytest.approx([1, 1], abs=1e-6)


def test_arguments_are_kept_and_build_the_network_again(case, bags, tmp_path):
    network = make(case, 2).eval()
    for name in inspect.signature(type(network)).parameters:
        assert hasattr(network, name), name
    save_network(network, tmp_path / "network.pt", class_names=("a", "b", "c"), task="ordinal")
    again = load_network(tmp_path / "network.pt")
    assert type(again) is type(network)
    assert not again.training
    torch.testing.assert_close(again(bags), network(bags), atol=0, rtol=0)


@pytest.mark.parametrize(
    "name",
    [pytest.param(name, marks=pytest.mark.command if name in TORCHVISION_BACKBONES else ()) for name in ENCODERS],
)
def test_every_encoder_keeps_the_contract(name, tmp_path):
    encoder, shape = ENCODERS[name]
    network = make("AttentionMIL", encoder=encoder).eval()
    tiles = torch.rand(2, 3, *shape)
    mask = torch.tensor([[True, True, True], [True, False, False]])
    output = network(tiles, mask)
    # Padding and the order of tiles change nothing.
    torch.testing.assert_close(output.logits[1], network(tiles[1:, :1]).logits[0], atol=1e-5, rtol=1e-5)
    turned = network(tiles[:, [2, 0, 1]], mask[:, [2, 0, 1]])
    torch.testing.assert_close(turned.logits, output.logits, atol=1e-5, rtol=1e-5)
    # A step without a bag, on a process that has none, goes through.
    assert network(tiles[:0, :1]).logits.shape == (0, 1)
    # The gradient reaches every parameter.
    output.logits.square().sum().backward()
    assert all(torch.isfinite(value.grad).all() for value in network.parameters())
    # Saved and loaded, it is the same network.
    save_network(network, tmp_path / "network.pt")
    loaded = load_network(tmp_path / "network.pt")
    assert torch.equal(loaded(tiles, mask).logits, output.logits)
    for argument in inspect.signature(type(network.tile_encoder.network)).parameters:
        assert hasattr(network.tile_encoder.network, argument), argument


@pytest.mark.parametrize("name", ["tile_cnn", "resnet18"])
def test_checkpointing_and_micro_batches_give_equal_gradients(name):
    spec, shape = ENCODERS[name]
    tiles = torch.rand(2, 5, *shape)
    gradients = []
    for options in ({}, {"activation_checkpointing": True, "tile_micro_batch": 3}):
        network = make("AttentionMIL", encoder={**spec, **options}).eval()
        network(tiles).logits.sum().backward()
        gradients.append([value.grad for value in network.parameters()])
    torch.testing.assert_close(*gradients, atol=1e-5, rtol=1e-5)


def test_padding_does_not_reach_the_statistics_of_batch_normalisation():
    tiles = torch.rand(1, 4, 3, 32, 32)
    tiles[:, 2:] = 50
    padded, alone = (make("AttentionMIL", encoder="resnet18").train() for _ in range(2))
    padded(tiles, torch.tensor([[True, True, False, False]]))
    alone(tiles[:, :2])
    torch.testing.assert_close(padded.state_dict(), alone.state_dict())


def test_a_frozen_encoder_stays_in_evaluation_mode_and_learns_nothing():
    network = make("AttentionMIL", encoder={"name": "resnet18", "frozen": True}).train()
    before = {name: value.clone() for name, value in network.tile_encoder.state_dict().items()}
    network(torch.rand(2, 2, 3, 32, 32)).logits.sum().backward()
    assert not network.tile_encoder.training
    assert all(torch.equal(value, before[name]) for name, value in network.tile_encoder.state_dict().items())
    assert network.classification_layer.weight.grad is not None
    assert not any(parameter.requires_grad for parameter in network.tile_encoder.parameters())
