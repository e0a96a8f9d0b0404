"""Encoders without a card of milpath: any architecture of timm, an ONNX file, a class of the user."""

import pytest
import torch
from torch import nn

from milpath.models.encoders import open_encoder
from milpath.models.encoders.weights_file import read_weights

timm = pytest.importorskip("timm", reason="comes with the extra backbones")


class OwnConv(nn.Module):
    takes = "tiles"

    def __init__(self, width: int = 4):
        super().__init__()
        self.embedding_dim = width
        self.layer = nn.Conv2d(3, width, 4, stride=4)

    def forward(self, tiles):
        return self.layer(tiles).mean((2, 3))


def onnx_file(path, shape=("tiles", 3, 32, 32), pooled=True) -> str:
    """Write a network that averages each channel and each 16 px square of it."""
    onnx = pytest.importorskip("onnx", reason="a package for development")
    helper = onnx.helper
    nodes = [
        helper.make_node("AveragePool", ["tiles"], ["pooled"], kernel_shape=[16, 16], strides=[16, 16]),
        helper.make_node("Flatten", ["pooled"], ["features"]),
    ]
    output = "features" if pooled else "pooled"
    graph = helper.make_graph(
        nodes[: 1 + pooled], "network",
        [helper.make_tensor_value_info("tiles", onnx.TensorProto.FLOAT, shape)],
        [helper.make_tensor_value_info(output, onnx.TensorProto.FLOAT, None)],
    )  # fmt: skip
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=9)
    onnx.save(model, str(path))
    return str(path)


def test_any_architecture_of_timm_opens_with_what_timm_says_of_it(tmp_path):
    torch.manual_seed(0)
    network = timm.create_model("resnet10t", pretrained=False)
    torch.save(network.state_dict(), tmp_path / "resnet10t.pth")
    encoder = open_encoder("timm/resnet10t", weights_path=str(tmp_path / "resnet10t.pth"))
    card = encoder.card
    assert (card.tile_size, card.mean, card.interpolation, card.embedding_dim) == (
        176,
        (0.485, 0.456, 0.406),
        "bicubic",
        512,
    )
    assert card.repository == "timm/resnet10t.c3_in1k"
    tiles = torch.rand(2, 3, 64, 64)
    mean, std = (torch.tensor(values).view(3, 1, 1) for values in (card.mean, card.std))
    network.reset_classifier(0)
    with torch.no_grad():
        torch.testing.assert_close(encoder(tiles), network.eval()((tiles - mean) / std), atol=1e-5, rtol=1e-5)


def test_an_unknown_architecture_or_tag_of_timm_is_refused():
    for name in ("timm/no_such", "timm/resnet10t.no_such", "timm/hf-hub:evil/model"):
        with pytest.raises(ValueError, match=r"timm .* has no architecture"):
            open_encoder(name)


def test_a_class_of_the_user_opens_with_its_arguments_and_weights(tmp_path):
    source = OwnConv(width=5)
    torch.save(source.state_dict(), tmp_path / "own.pth")
    spec = {"name": OwnConv, "width": 5, "tile_size": 32, "microns_per_pixel": 0.5}
    encoder = open_encoder(spec, weights_path=str(tmp_path / "own.pth"))
    tiles = torch.rand(3, 3, 32, 32)
    assert torch.equal(encoder(tiles), source(tiles))
    assert (encoder.card.name, encoder.card.arguments, encoder.card.microns_per_pixel) == ("OwnConv", {"width": 5}, 0.5)
    # The card names the class; code is run only if the user gives it.
    with pytest.raises(ValueError, match=r"give it: parts=\[my_parts\.OwnConv\] in a command"):
        open_encoder(encoder.card, weights_path=str(tmp_path / "own.pth"))
    again = open_encoder(encoder.card, weights_path=str(tmp_path / "own.pth"), encoders=[OwnConv])
    assert again.card == encoder.card
    assert torch.equal(again(tiles), source(tiles))


def test_a_class_of_the_user_says_what_it_lacks():
    with pytest.raises(ValueError, match="OwnConv: tile_size must be given"):
        open_encoder(OwnConv)
    with pytest.raises(ValueError, match='Linear must be a torch.nn.Module with takes = "tiles"'):
        open_encoder({"name": nn.Linear, "in_features": 3, "out_features": 2, "tile_size": 32})
    with pytest.raises(ValueError, match="unknown field 'colour'"):
        open_encoder({"name": OwnConv, "tile_size": 32, "colour": "red"})


def test_an_onnx_file_computes_its_features_of_normalised_tiles(tmp_path):
    pytest.importorskip("onnxruntime", reason="comes with the extra onnx")
    path = onnx_file(tmp_path / "network.onnx")
    spec = {"name": "mine", "library": "onnx", "tile_size": 32, "mean": [0.5] * 3, "std": [0.25] * 3}
    encoder = open_encoder(spec, weights_path=path)
    tiles = torch.rand(2, 3, 32, 32)
    expected = torch.nn.functional.avg_pool2d((tiles - 0.5) / 0.25, 16).flatten(1)
    torch.testing.assert_close(encoder(tiles), expected, atol=1e-5, rtol=1e-5)
    assert encoder.embedding_dim == 12
    assert len(encoder.card.weights_sha256) == 64
    other = onnx_file(tmp_path / "other.onnx", shape=("tiles", 3, "height", "width"))
    with pytest.raises(ValueError, match="other weights of mine were asked for"):
        open_encoder(encoder.card, weights_path=other)


def test_an_onnx_file_that_does_not_fit_is_one_line(tmp_path):
    pytest.importorskip("onnxruntime", reason="comes with the extra onnx")
    (tmp_path / "broken.onnx").write_bytes(b"not onnx")
    spec = {"name": "mine", "library": "onnx", "tile_size": 32}
    with pytest.raises(ValueError, match=r"broken\.onnx is not an ONNX network") as caught:
        open_encoder(spec, weights_path=str(tmp_path / "broken.onnx"))
    assert "\n" not in str(caught.value)
    with pytest.raises(ValueError, match="give weights_path=FILE.onnx"):
        open_encoder(spec)
    with pytest.raises(ValueError, match=r"does not take tiles of shape \(1, 3, 48, 48\)"):
        open_encoder(spec | {"tile_size": 48}, weights_path=onnx_file(tmp_path / "network.onnx"))
    with pytest.raises(ValueError, match=r"must be \(tiles, features\), not of shape \(1, 3, 2, 2\)"):
        open_encoder(spec, weights_path=onnx_file(tmp_path / "map.onnx", pooled=False))


def test_a_file_of_torch_export_is_refused_because_it_can_run_code(tmp_path):
    (tmp_path / "network.pt2").write_bytes(b"")
    with pytest.raises(ValueError, match="torch.export can run code when it is read; export the network to ONNX"):
        read_weights(tmp_path / "network.pt2")
