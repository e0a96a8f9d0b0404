"""Pretrained encoders: every card builds, fits what was published, and loads nothing that is not its own."""

import dataclasses

import pytest
import torch
import torch.nn.functional as F
import torchvision
from torch import nn

from milpath.models import AttentionMIL, load_network, save_network
from milpath.models.encoders import (
    Backbone,
    EncoderCard,
    PretrainedEncoder,
    TileEncoder,
    encoder_card,
    encoder_names,
    open_encoder,
)
from milpath.models.encoders.open_encoder import from_spec
from milpath.models.encoders.pretrained_encoder import require_sound_features

timm = pytest.importorskip("timm", reason="comes with the extra backbones")
# Builds whole encoders.
pytestmark = pytest.mark.command

# Parameters as published: an exact number where the authors print it, else the size of the file of float32 on its page.
EXACT = {"prov_gigapath": 1_134_953_984}
MILLIONS = {
    "uni2_h": (681, 0.5), "virchow": (631, 0.7), "virchow2": (631, 0.7), "hibou_b": (85.7, 0.05), "hibou_l": (304, 0.5),
    "dinov2_large": (304.4, 0.05), "dinov2_giant": (1136.5, 0.05),
}  # fmt: skip
MEGABYTES = {
    "h_optimus_0": (4540, 5), "phikon_v2": (1210, 5), "kaiko_vitl14": (1220, 5), "kaiko_vitb16": (343, 0.5),
    "kaiko_vitb8": (343, 0.5), "lunit_vits8": (86.7, 0.05), "lunit_vits16": (86.7, 0.05), "dinov3_small": (86.4, 0.1),
    "dinov3_huge_plus": (3360, 5),
}  # fmt: skip


def shallow(name: str) -> EncoderCard:
    """Return the card of an encoder with one block only, where the architecture can be shortened."""
    card = encoder_card(name)
    depth = {} if card.architecture.startswith(("resnet", "convnext", "tf_efficientnet", "swin")) else {"depth": 1}
    return dataclasses.replace(card, arguments=dict(card.arguments) | depth)


def write(encoder: PretrainedEncoder, path, **changes) -> str:
    torch.save(encoder.network.state_dict() | changes, path)
    return str(path)


@pytest.fixture(scope="module")
def uni():
    torch.manual_seed(0)
    encoder = PretrainedEncoder(shallow("uni")).eval()
    with torch.no_grad():
        for block in encoder.network.blocks:  # random LayerScale, so that leaving it out would show
            block.ls1.gamma.fill_(0.5)
            block.ls2.gamma.fill_(0.5)
    return encoder


@pytest.mark.parametrize("name", encoder_names())
def test_every_encoder_has_the_parameters_that_its_card_says_and_is_described_without_memory(name):
    card = encoder_card(name)
    with torch.device("meta"):
        encoder = TileEncoder(card.to_dict() | {"frozen": True})
    assert all(parameter.is_meta for parameter in encoder.parameters())
    assert sum(parameter.numel() for parameter in encoder.parameters()) == card.num_parameters
    assert encoder.embedding_dim == card.embedding_dim


def test_the_parameters_are_those_that_the_authors_state():
    for name, number in EXACT.items():
        assert encoder_card(name).num_parameters == number
    for name, (millions, tolerance) in MILLIONS.items():
        assert encoder_card(name).num_parameters / 1e6 == pytest.approx(millions, abs=tolerance), name
    for name, (megabytes, tolerance) in MEGABYTES.items():
        assert encoder_card(name).num_parameters * 4 / 1e6 == pytest.approx(megabytes, abs=tolerance), name


@pytest.mark.parametrize("name", encoder_names())
def test_every_encoder_computes_features_of_the_stated_width(name):
    torch.manual_seed(0)
    card = shallow(name)
    encoder = PretrainedEncoder(card).eval()
    tiles = torch.rand(2, 3, card.tile_size, card.tile_size)
    with torch.inference_mode():
        features = encoder(tiles)
    assert features.shape == (2, card.embedding_dim)
    assert torch.isfinite(features).all()


def test_class_token_and_mean_leave_out_the_registers():
    card = shallow("virchow2")
    encoder = PretrainedEncoder(card).eval()
    tiles = torch.rand(1, 3, 224, 224)
    mean, std = (torch.tensor(values).view(3, 1, 1) for values in (card.mean, card.std))
    with torch.no_grad():
        tokens = encoder.network.forward_features((tiles - mean) / std)
        assert tokens.shape == (1, 1 + 4 + 16 * 16, 1280)
        expected = torch.cat([tokens[:, 0], tokens[:, 5:].mean(1)], dim=1)
        torch.testing.assert_close(encoder(tiles), expected)


def test_weights_of_a_file_give_the_features_of_the_network_they_were_saved_from(uni, tmp_path):
    path = write(uni, tmp_path / "uni.pth")
    opened = from_spec(uni.card.to_dict() | {"weights_path": path}).eval()
    tiles = torch.rand(3, 3, 224, 224)
    with torch.no_grad():
        assert torch.equal(opened(tiles), uni(tiles))
    assert len(opened.card.weights_sha256) == 64
    assert not any(parameter.is_meta for parameter in opened.parameters())


def test_the_digest_is_that_of_the_tensors_whatever_the_format_of_the_file(uni, tmp_path):
    safetensors = pytest.importorskip("safetensors.torch", reason="comes with the extra backbones")
    safetensors.save_file(uni.network.state_dict(), tmp_path / "uni.safetensors")
    torch.save({"model": uni.network.state_dict()}, tmp_path / "uni.bin")
    digests = {
        from_spec(uni.card.to_dict() | {"weights_path": str(tmp_path / name)}).card.weights_sha256
        for name in ("uni.safetensors", "uni.bin")
    }
    assert len(digests) == 1


def test_a_card_with_a_digest_refuses_other_weights(uni, tmp_path):
    path = write(uni, tmp_path / "uni.pth")
    card = from_spec(uni.card.to_dict() | {"weights_path": path}).card
    assert open_encoder(card, weights_path=path).card == card
    other = write(uni, tmp_path / "other.pth", cls_token=torch.ones(1, 1, 1024))
    with pytest.raises(ValueError, match="other weights of uni were asked for"):
        open_encoder(card, weights_path=other)


def test_a_tensor_left_over_is_an_error_and_a_classification_layer_is_not(uni, tmp_path):
    with_head = write(uni, tmp_path / "head.pth", **{"head.weight": torch.ones(2, 1024), "head.bias": torch.ones(2)})
    from_spec(uni.card.to_dict() | {"weights_path": with_head})
    # The network of the card without LayerScale, the weights with it: what was silently dropped before.
    plain = shallow("uni").to_dict()
    plain["arguments"].pop("init_values")
    plain["arguments"]["img_size"] = 224
    with pytest.raises(ValueError, match=r"has 2 weights that the network lacks, first 'blocks\.0\.ls1\.gamma'"):
        from_spec(plain | {"weights_path": with_head})


def test_half_precision_weights_are_computed_in_float32(uni, tmp_path):
    torch.save({name: value.half() for name, value in uni.network.state_dict().items()}, tmp_path / "half.pth")
    opened = from_spec(uni.card.to_dict() | {"weights_path": str(tmp_path / "half.pth")})
    assert {parameter.dtype for parameter in opened.parameters()} == {torch.float32}


def test_buffers_that_are_computed_are_there_after_loading(tmp_path):
    torch.manual_seed(0)
    encoder = PretrainedEncoder(shallow("dinov3_small")).eval()
    with torch.no_grad():
        encoder.network.blocks[0].gamma_1.fill_(1)
    path = write(encoder, tmp_path / "dinov3.pth")
    opened = from_spec(encoder.card.to_dict() | {"weights_path": path}).eval()
    tiles = torch.rand(2, 3, 256, 256)
    with torch.no_grad():
        assert torch.equal(opened(tiles), encoder(tiles))


def test_a_truncated_file_is_one_line(uni, tmp_path):
    safetensors = pytest.importorskip("safetensors.torch", reason="comes with the extra backbones")
    safetensors.save_file(uni.network.state_dict(), tmp_path / "uni.safetensors")
    write(uni, tmp_path / "uni.pth")
    for name in ("uni.safetensors", "uni.pth"):
        content = (tmp_path / name).read_bytes()
        (tmp_path / name).write_bytes(content[: len(content) // 2])
        with pytest.raises(ValueError, match=rf"{name}.* does not contain plain weights") as caught:
            from_spec(uni.card.to_dict() | {"weights_path": str(tmp_path / name)})
        assert "\n" not in str(caught.value)


def test_weights_that_give_the_same_features_for_every_tile_are_refused_in_the_first_batch(uni, tmp_path):
    zero = {name: torch.zeros_like(value) for name, value in uni.network.state_dict().items()}
    zero["norm.bias"] = torch.arange(1024.0)
    torch.save(zero, tmp_path / "zero.pth")
    opened = from_spec(uni.card.to_dict() | {"weights_path": str(tmp_path / "zero.pth")}).eval()
    with pytest.raises(ValueError, match="the features of uni are the same for different tiles"):
        opened(torch.rand(2, 3, 224, 224))


def test_features_that_are_not_finite_or_constant_are_refused():
    tiles = torch.rand(2, 3, 8, 8)
    require_sound_features(torch.randn(2, 16), tiles, "uni")
    require_sound_features(torch.randn(1, 16).expand(2, -1), torch.ones(2, 3, 8, 8), "uni")  # two white tiles
    with pytest.raises(ValueError, match="not finite; try precision=32-true"):
        require_sound_features(torch.full((2, 16), float("nan")), tiles, "uni")
    with pytest.raises(ValueError, match="all the same number"):
        require_sound_features(torch.ones(2, 16), tiles, "uni")


def test_tiles_of_another_size_are_resized_where_the_card_allows_it_and_refused_where_not(caplog):
    tiles = torch.rand(2, 3, 256, 256)
    resizes = PretrainedEncoder(shallow("uni")).eval()
    small = F.interpolate(tiles, size=(224, 224), mode="bilinear", antialias=True)
    with torch.no_grad():
        torch.testing.assert_close(resizes(tiles), resizes(small))
        resizes(tiles)
    assert [record.message for record in caplog.records] == ["uni resizes tiles of 256 px to the 224 px that it takes"]
    refuses = PretrainedEncoder(shallow("prov_gigapath"))
    with pytest.raises(
        ValueError, match="prov_gigapath takes tiles of 224 px, not 256 px; cut the slides with tile_size=224"
    ):
        refuses(tiles)
    assert PretrainedEncoder(encoder_card("efficientnet_lite0")).eval()(tiles[:, :, :64, :64]).shape == (2, 1280)


def test_resnet50_and_lite0_are_those_of_training(tmp_path):
    torch.manual_seed(0)
    tiles = torch.rand(2, 3, 64, 64)
    torch.save(torchvision.models.get_model("resnet50", weights=None).state_dict(), tmp_path / "resnet50.pth")
    ours = open_encoder("resnet50", weights_path=str(tmp_path / "resnet50.pth"))
    theirs = Backbone("resnet50", weights_path=str(tmp_path / "resnet50.pth")).eval()
    with torch.no_grad():
        torch.testing.assert_close(ours(tiles), theirs(tiles), atol=1e-5, rtol=1e-5)
        lite0 = Backbone("efficientnet_lite0", pretrained=True).eval()
        torch.testing.assert_close(open_encoder("efficientnet_lite0")(tiles), lite0(tiles), atol=1e-5, rtol=1e-5)


def test_an_encoder_travels_in_the_checkpoint_of_a_network(uni, tmp_path):
    path = write(uni, tmp_path / "uni.pth")
    spec = uni.card.to_dict() | {"weights_path": path, "pretrained": True, "frozen": True, "tile_micro_batch": 2}
    torch.manual_seed(0)
    network = AttentionMIL(encoder=spec, num_outputs=1).eval()
    assert not any(parameter.requires_grad for parameter in network.tile_encoder.parameters())
    save_network(network, tmp_path / "network.pt")
    (tmp_path / "uni.pth").unlink()
    loaded = load_network(tmp_path / "network.pt")
    bag = torch.rand(1, 3, 3, 224, 224)
    with torch.no_grad():
        assert torch.equal(loaded(bag).logits, network(bag).logits)
    assert loaded.tile_encoder.spec["weights_sha256"] == network.tile_encoder.network.card.weights_sha256
    assert "weights_path" not in loaded.tile_encoder.spec


def test_an_encoder_is_trained_end_to_end(uni, tmp_path):
    path = write(uni, tmp_path / "uni.pth")
    network = AttentionMIL(encoder=uni.card.to_dict() | {"weights_path": path}, num_outputs=1).train()
    network(torch.rand(1, 2, 3, 224, 224)).logits.sum().backward()
    assert network.tile_encoder.network.network.blocks[0].attn.qkv.weight.grad.abs().sum() > 0


def test_the_statistics_are_part_of_the_network(uni):
    names = set(TileEncoder(uni.card.to_dict()).state_dict())
    assert {"network.normalise.scale", "network.normalise.shift"} <= names
    assert isinstance(uni.network, nn.Module)
