"""Memory, padding and statistics: what stands between the bags and an encoder."""

import pytest
import torch

from milpath.models import AttentionMIL
from milpath.models.encoders import TileEncoder

SMALL = {"name": "tile_cnn", "tile_size": 24, "embedding_dim": 16}
REAL = torch.tensor([[True, True, True], [True, False, False]])


def tiles(*shape: int) -> torch.Tensor:
    return torch.rand(*shape, generator=torch.Generator().manual_seed(1))


def encoder(spec) -> TileEncoder:
    torch.manual_seed(0)
    return TileEncoder(spec)


def saved_bytes(network: TileEncoder, batch: torch.Tensor) -> int:
    """Return how much a forward pass keeps for the way back, weights left out."""
    kept = {}
    own = {parameter.untyped_storage().data_ptr() for parameter in network.parameters()}

    def note(tensor: torch.Tensor) -> torch.Tensor:
        storage = tensor.untyped_storage()
        if storage.data_ptr() not in own:
            kept[storage.data_ptr()] = storage.nbytes()
        return tensor

    with torch.autograd.graph.saved_tensors_hooks(note, lambda tensor: tensor):
        result = network(batch)
    assert result.requires_grad
    return sum(kept.values())


@pytest.mark.parametrize("spec", [SMALL, {"name": "resnet18"}], ids=["tile_cnn", "resnet18"])
def test_checkpointing_and_micro_batches_keep_a_fraction_of_the_activations(spec):
    batch = tiles(2, 8, 3, 24, 24)
    plain = saved_bytes(encoder(spec).train(), batch)
    bounded = saved_bytes(encoder({**spec, "activation_checkpointing": True, "tile_micro_batch": 4}).train(), batch)
    assert bounded < plain / 10


@pytest.mark.parametrize("name", ["resnet18", "efficientnet_lite0"])
def test_checkpointing_while_training_gives_equal_gradients_and_counts_statistics_once(name):
    batch = tiles(2, 4, 3, 32, 32)
    results = []
    for checkpointing in (False, True):
        network = encoder({"name": name, "activation_checkpointing": checkpointing}).train()
        torch.manual_seed(3)
        network(batch).square().mean().backward()
        results.append(([parameter.grad for parameter in network.parameters()], network.state_dict()))
    torch.testing.assert_close(results[1], results[0], atol=1e-5, rtol=1e-5)


def test_checkpointing_draws_the_same_dropout_on_the_way_back():
    gradients = []
    for checkpointing in (False, True):
        network = encoder({**SMALL, "activation_checkpointing": checkpointing}).train()
        torch.manual_seed(3)
        network(tiles(2, 4, 3, 24, 24)).sum().backward()
        gradients.append([parameter.grad for parameter in network.parameters()])
    torch.testing.assert_close(gradients[1], gradients[0], atol=1e-6, rtol=0)


def test_only_real_tiles_are_encoded_and_at_most_a_micro_batch_at_a_time():
    network = encoder({**SMALL, "tile_micro_batch": 3}).eval()
    seen: list[int] = []
    network.network.register_forward_pre_hook(lambda _, arguments: seen.append(len(arguments[0])))
    network(tiles(2, 3, 3, 24, 24), REAL)
    assert seen == [3, 1]
    network.train()(tiles(2, 5, 3, 24, 24))
    assert seen[2:] == [3, 3, 2, 2]


@pytest.mark.parametrize("spec", [SMALL, {"name": "linear", "num_features": 5}], ids=["tiles", "features"])
@pytest.mark.parametrize("content", [float("nan"), float("inf")])
def test_nothing_in_the_padding_reaches_embeddings_or_gradients(spec, content):
    network = encoder(spec).eval()
    batch = tiles(2, 3, *((5,) if spec["name"] == "linear" else (3, 24, 24)))
    batch[~REAL] = content
    embeddings = network(batch, REAL)
    assert (embeddings[~REAL] == 0).all()
    embeddings.sum().backward()
    assert all(torch.isfinite(parameter.grad).all() for parameter in network.parameters())


@pytest.mark.parametrize("spec", [SMALL, {"name": "linear", "num_features": 5}], ids=["tiles", "features"])
def test_a_mask_that_does_not_fit_is_refused_before_anything_is_encoded(spec):
    network = encoder(spec)
    network.network.register_forward_pre_hook(lambda *_: pytest.fail("encoded"))
    batch = tiles(2, 3, *((5,) if spec["name"] == "linear" else (3, 24, 24)))
    with pytest.raises(ValueError, match=r"mask must be bool of shape \(2, 3\) \(bags, tiles\), not bool of shape"):
        network(batch, REAL[:, :2])
    with pytest.raises(ValueError, match="mask must be bool .* not float32"):
        network(batch, REAL.float())
    with pytest.raises(ValueError, match="bag 1 of the batch has no real tile"):
        network(batch, torch.tensor([[True, True, True], [False, False, False]]))


@pytest.mark.parametrize(
    ("spec", "message"),
    [
        ("vgg", "encoder 'vgg' must be one of tile_cnn, lenet5, linear, resnet18"),
        ([["name", "resnet18"], ["pretrained", True]], "encoder must be a name or a mapping of name and arguments"),
        ({"tile_size": 32}, "an encoder needs a name"),
        ({"name": "tile_cnn", "colour": 1}, "encoder tile_cnn: .*colour"),
        ({"name": "tile_cnn", "tile_size": 10}, "tiles of at least 11 px, not tile_size=10"),
        ({"name": "tile_cnn", "dropout": 1.5}, "dropout probability"),
        ({"name": "tile_cnn", "mean": [0.5]}, "3 channels.*mean has 1"),
        ({"name": "tile_cnn", "std": [0.1, 0.0, 0.1]}, "std .*greater than 0"),
        ({"name": "linear"}, "set model.encoder.num_features"),
        ({"name": "linear", "num_features": 3, "clip": 0}, "clip=0 .* must be greater than 0 standard deviations"),
        ({**SMALL, "tile_micro_batch": 0}, "tile_micro_batch must be null or at least 1, not 0"),
    ],
)
def test_a_wrong_encoder_is_one_clear_line(spec, message):
    with pytest.raises(ValueError, match=message) as caught:
        AttentionMIL(encoder=spec)
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize(
    ("spec", "shape", "message"),
    [
        (SMALL, (1, 2, 3, 32, 32), "tile_cnn was built for 3 x 24 x 24 tiles, not 3 x 32 x 32"),
        (SMALL, (1, 2, 5), r"takes \(bags, tiles, channels, height, width\)"),
        ("lenet5", (1, 2, 3, 28, 28), "lenet5 needs 1 x 28 x 28 digits, not 3 x 28 x 28"),
        ("resnet18", (1, 2, 1, 32, 32), "tiles with 3 channels, not 1"),
        ({"name": "linear", "num_features": 4}, (1, 2, 5), "takes 4 features per tile, the bags have 5"),
        ({"name": "linear", "num_features": 4}, (1, 2, 3, 8, 8), r"takes \(bags, tiles, features\)"),
    ],
)
def test_tiles_that_do_not_fit_the_encoder_are_one_clear_line(spec, shape, message):
    with pytest.raises(ValueError, match=message):
        AttentionMIL(encoder=spec)(torch.rand(shape))


def test_micro_batches_and_checkpointing_together_give_equal_gradients():
    results = []
    for bounds in ({}, {"activation_checkpointing": True, "tile_micro_batch": 3}):
        network = encoder({**SMALL, "dropout": 0.0, **bounds}).train()
        network(tiles(2, 4, 3, 24, 24)).square().mean().backward()
        results.append([parameter.grad for parameter in network.parameters()])
    torch.testing.assert_close(results[1], results[0], atol=1e-5, rtol=1e-5)


def test_standardised_features_are_limited_and_without_layers_are_the_embedding():
    network = TileEncoder({"name": "linear", "num_features": 2, "hidden_dims": [], "clip": 3.0})
    network.network.set_statistics(torch.tensor([1.0, 0.0]), torch.tensor([2.0, 0.001]))
    embeddings = network(torch.tensor([[[2.0, 0.002], [-9.0, 1.0]]]), None)
    torch.testing.assert_close(embeddings, torch.tensor([[[0.5, 2.0], [-3.0, 3.0]]]))
