"""Any module as an encoder: what it takes is found, and it is loaded again by its class, or by a module built like it."""

import copy

import pytest
import torch
from torch import nn

from milpath.models import AttentionMIL, InstancePoolMIL, load_card, load_network, save_network


class Keeps(nn.Module):
    """A class that keeps its arguments, and says nothing of itself."""

    def __init__(self, width: int = 4, scale: float = 1.0) -> None:
        super().__init__()
        self.width, self.scale = width, scale
        self.layers = nn.Sequential(
            nn.Conv2d(3, width, 3), nn.BatchNorm2d(width), nn.AdaptiveAvgPool2d(1), nn.Flatten()
        )

    def forward(self, tiles):
        return self.scale * self.layers(tiles)


class Forgets(Keeps):
    """Does not keep `depth`, which changes no shape: a network built with its default would fit and be wrong."""

    def __init__(self, width: int = 4, scale: float = 1.0, depth: float = 1.0) -> None:
        super().__init__(width, scale * depth)


def fixed_size(size: int) -> nn.Module:
    return nn.Sequential(nn.Flatten(), nn.Linear(3 * size * size, 5))


TILES, FEATURES = (3, 40, 40), (7,)
MODULES = {
    "convolutions": (Keeps(6, 0.5), TILES, 6),
    "a class that forgets": (Forgets(5, 0.5, 0.5), TILES, 5),
    "a sequence": (nn.Sequential(nn.Conv2d(3, 8, 3), nn.ReLU(), nn.AdaptiveMaxPool2d(1), nn.Flatten()), TILES, 8),
    "one size only": (fixed_size(32), (3, 32, 32), 5),
    "features": (nn.Linear(7, 4), FEATURES, 4),
    "layers of features": (nn.Sequential(nn.LayerNorm(7), nn.Linear(7, 3), nn.ReLU()), FEATURES, 3),
}


@pytest.mark.parametrize("name", MODULES)
def test_any_module_is_an_encoder_and_a_module_built_like_it_loads_the_checkpoint(name, tmp_path):
    module, shape, width = MODULES[name]
    modes = [part.training for part in module.modules()]
    network = AttentionMIL(encoder=module)
    assert network.tile_encoder.network is module
    assert network.tile_encoder.embedding_dim == width
    assert [part.training for part in module.modules()] == modes
    save_network(network, tmp_path / "own.pt")
    other = copy.deepcopy(module)
    for parameter in other.parameters():
        parameter.data.zero_()
    zeros = copy.deepcopy(other.state_dict())
    again = load_network(tmp_path / "own.pt", encoders=[other])
    bags, mask = torch.rand(2, 3, *shape), torch.tensor([[True, True, False], [True, True, True]])
    for found, expected in zip(again(bags, mask), network.eval()(bags, mask), strict=True):
        torch.testing.assert_close(found, expected, rtol=0, atol=0)
    # The module that was given is a pattern: it keeps its own weights.
    assert all(torch.equal(value, zeros[key]) for key, value in other.state_dict().items())


def test_a_class_that_keeps_its_arguments_is_enough(tmp_path):
    network = InstancePoolMIL(encoder={"name": Keeps(6, 0.5), "frozen": True, "tile_micro_batch": 2})
    save_network(network, tmp_path / "own.pt")
    described = load_card(tmp_path / "own.pt").network["arguments"]["encoder"]
    assert described["name"] == "Keeps"
    assert (described["width"], described["scale"], described["frozen"]) == (6, 0.5, True)
    again = load_network(tmp_path / "own.pt", encoders=[Keeps])
    assert again.tile_encoder.frozen
    assert not any(parameter.requires_grad for parameter in again.tile_encoder.parameters())
    bags = torch.rand(2, 3, *TILES)
    torch.testing.assert_close(again(bags).logits, network.eval()(bags).logits, rtol=0, atol=0)
    # A network that was loaded can be written and loaded again.
    save_network(again, tmp_path / "twice.pt")
    torch.testing.assert_close(load_network(tmp_path / "twice.pt", encoders=[Keeps])(bags).logits, again(bags).logits)


@pytest.mark.parametrize("kind", [Forgets, nn.Sequential])
def test_a_class_that_does_not_keep_its_arguments_asks_for_a_module(kind, tmp_path):
    module = Forgets(5, 0.5, 0.5) if kind is Forgets else nn.Sequential(nn.Flatten(), nn.Linear(48, 2))
    save_network(
        AttentionMIL(encoder={"name": module, "tile_size": 4} if kind is nn.Sequential else module), tmp_path / "o.pt"
    )
    with pytest.raises(
        ValueError, match=rf"o\.pt: .*arguments of the encoder {kind.__name__}.*encoders=\[my_module\]"
    ) as caught:
        load_network(tmp_path / "o.pt", encoders=[kind])
    assert "\n" not in str(caught.value)
    with pytest.raises(ValueError, match=rf"encoder '{kind.__name__}' must be one of tile_cnn.*encoders="):
        load_network(tmp_path / "o.pt")


def test_a_module_of_another_architecture_is_refused(tmp_path):
    save_network(AttentionMIL(encoder=Keeps(6)), tmp_path / "own.pt")
    with pytest.raises(ValueError, match=r"'tile_encoder\.network\.layers\.0\.weight' is \(6, 3, 3, 3\), not \(5,"):
        load_network(tmp_path / "own.pt", encoders=[Keeps(5)])


@pytest.mark.parametrize(
    ("encoder", "message"),
    [
        (
            nn.Conv2d(3, 4, 3),
            r"the encoder Conv2d does not return .* it returns \(2, 4, 222, 222\) for two\); pool its output",
        ),
        (
            nn.LSTM(3, 4),
            r"of any usual size \(of 224 pixels it raises \w+: LSTM: Expected input to be 2D or 3D, got 4D",
        ),
        ({"name": fixed_size(40)}, r'does not return .*encoder=\{"name": module, "tile_size": 40\}'),
        (
            {"name": fixed_size(40), "tile_size": 41},
            r"of 41 pixels \(of 41 pixels it raises RuntimeError: mat1 and mat2",
        ),
        (3, "must be a name or a mapping of name and arguments, or a torch.nn.Module, not 3"),
    ],
)
def test_what_is_no_encoder_is_refused_in_one_line(encoder, message):
    with pytest.raises(ValueError, match=message) as caught:
        AttentionMIL(encoder=encoder)
    assert "\n" not in str(caught.value)


def test_a_size_that_is_not_usual_is_given():
    assert AttentionMIL(encoder={"name": fixed_size(40), "tile_size": 40}).tile_encoder.embedding_dim == 5
