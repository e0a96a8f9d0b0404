"""Encoder and network classes of a user: described by bare names, and found again among the classes that the user gives."""

import json

import pytest
import torch
from torch import nn

from milpath.models import AttentionMIL, MILOutput, load_card, load_network, save_network
from milpath.models.checkpoint import load_weights


class Brightness(nn.Module):
    takes = "tiles"

    def __init__(self, width: int = 4) -> None:
        super().__init__()
        self.embedding_dim = width
        self.layer = nn.Linear(3, width)

    def forward(self, tiles):
        return self.layer(tiles.mean((2, 3)))


class Mean(nn.Module):
    def __init__(self, num_features: int, num_outputs: int = 1) -> None:
        super().__init__()
        self.num_features, self.num_outputs = num_features, num_outputs
        self.layer = nn.Linear(num_features, num_outputs)

    def forward(self, tiles, mask=None):
        mask = torch.ones(tiles.shape[:2], dtype=torch.bool) if mask is None else mask
        attention = mask / mask.sum(1, keepdim=True)
        return MILOutput(self.layer((attention[..., None] * tiles).sum(1)), attention)


def named(name: str, kind: type = nn.Module) -> type:
    return type(name, (kind,), {})


def test_a_network_of_ones_own_is_loaded_again_by_its_class(tmp_path):
    network = Mean(5)
    save_network(network, tmp_path / "own.pt")
    again = load_network(tmp_path / "own.pt", networks=[Mean])
    assert isinstance(again, Mean)
    assert not again.training
    bags = torch.rand(2, 3, 5)
    torch.testing.assert_close(again(bags).logits, network(bags).logits)


def test_an_encoder_of_ones_own_works_in_a_network_of_milpath_and_is_loaded_again(tmp_path):
    network = AttentionMIL(encoder={"name": Brightness, "width": 6, "tile_micro_batch": 2})
    save_network(network, tmp_path / "own.pt")
    description = load_card(tmp_path / "own.pt").network
    assert description["arguments"]["encoder"] == {"name": "Brightness", "width": 6, "tile_micro_batch": 2}
    assert __name__ not in json.dumps(description)
    bags, mask = torch.rand(2, 3, 3, 8, 8), torch.tensor([[True, True, False], [True, True, True]])
    again = load_network(tmp_path / "own.pt", encoders=[Brightness])
    for found, expected in zip(again(bags, mask), network.eval()(bags, mask), strict=True):
        torch.testing.assert_close(found, expected)


@pytest.mark.parametrize(
    ("network", "message"),
    [
        (Mean(5), r"unknown network 'Mean'.*networks=\[MyNetwork\].*parts=\[my_parts.MyNetwork\]"),
        (
            AttentionMIL(encoder={"name": Brightness}),
            r"encoder 'Brightness' must be one of tile_cnn.*encoders=\[MyEncoder\]",
        ),
    ],
)
def test_a_class_that_is_not_given_is_asked_for_in_one_line(network, message, tmp_path):
    save_network(network, tmp_path / "own.pt")
    with pytest.raises(ValueError, match=message) as caught:
        load_network(tmp_path / "own.pt")
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize(
    ("networks", "encoders", "message"),
    [
        ([named("AttentionMIL")], [], "milpath already has the network AttentionMIL; give your class another name"),
        ([], [named("tile_cnn")], "milpath already has the encoder tile_cnn"),
        ([Mean, named("Mean")], [], "two network classes are named Mean"),
        ([Mean(3)], [], "is not a network; give classes"),
        ([int], [], "is not a network; give classes"),
    ],
)
def test_a_class_that_clashes_or_is_none_is_refused(networks, encoders, message, tmp_path):
    save_network(Mean(5), tmp_path / "own.pt")
    with pytest.raises(ValueError, match=message):
        load_network(tmp_path / "own.pt", networks=[*networks, Mean], encoders=encoders)


def test_a_name_of_milpath_is_never_another_class(tmp_path):
    save_network(AttentionMIL(encoder={"name": "linear", "num_features": 3}), tmp_path / "network.pt")
    assert type(load_network(tmp_path / "network.pt", networks=[Mean], encoders=[Brightness])) is AttentionMIL


def test_weights_that_do_not_fit_the_class_are_refused(tmp_path):
    save_network(Mean(5), tmp_path / "own.pt")

    class Wider(nn.Module):
        def __init__(self, num_features: int, num_outputs: int = 1) -> None:
            super().__init__()
            self.layer = nn.Linear(num_features + 1, num_outputs)

    Wider.__name__ = "Mean"
    with pytest.raises(ValueError, match=r"own\.pt: .*'layer\.weight' is \(1, 5\), not \(1, 6\)"):
        load_network(tmp_path / "own.pt", networks=[Wider])
    with pytest.raises(ValueError, match=r"own\.pt: .*'layer\.weight' is"):
        load_weights(Mean(6), tmp_path / "own.pt")


class Forgetful(Mean):
    def __init__(self, num_features: int = 3, width: int = 2, num_outputs: int = 1) -> None:
        super().__init__(num_features, num_outputs)


class OpenEnded(Mean):
    def __init__(self, **options: int) -> None:
        super().__init__(3)


@pytest.mark.parametrize(
    ("kind", "message"),
    [
        (Forgetful, "Forgetful does not store its argument width.*self.width = width"),
        (OpenEnded, r"OpenEnded takes \*\*options: int; name each argument"),
    ],
)
def test_a_network_that_could_not_be_built_again_is_not_written(kind, message, tmp_path):
    with pytest.raises(ValueError, match=message):
        save_network(kind(), tmp_path / "own.pt")
    assert not list(tmp_path.iterdir())


@pytest.mark.parametrize(
    ("kind", "message"),
    [
        (named("Silent"), 'encoder Silent must declare takes = "tiles" or takes = "features"'),
        (type("NoWidth", (nn.Module,), {"takes": "tiles"}), "encoder NoWidth must store the width.*self.embedding_dim"),
        (type("NoModule", (), {"takes": "tiles"}), "encoder NoModule is not a torch.nn.Module"),
        (named("resnet18", Brightness), "milpath already has the encoder resnet18"),
    ],
)
def test_an_encoder_class_that_does_not_declare_itself_is_refused(kind, message):
    with pytest.raises(ValueError, match=message):
        AttentionMIL(encoder={"name": kind})


def test_an_argument_that_the_encoder_class_does_not_take_is_named():
    with pytest.raises(ValueError, match="encoder Brightness: .*colour"):
        AttentionMIL(encoder={"name": Brightness, "colour": 1})
