import numpy as np
import pytest
import torch

from milpath.models import FeatherMIL, load_card, load_network, save_network
from milpath.models.networks.feather_mil import load_feather

# Widths of the published files: features of CONCH v1.5, UNI and UNI 2.
PUBLISHED = (768, 1024, 1536)
HIDDEN, ATTENTION = 512, 384


def feather_file(path, num_features: int, prefix: str = "model.", classes: int = 0, **changes):
    """Write weights with the names and shapes of MIL-Lab's ABMIL (embed_dim 512, attn_dim 384, one head, gated)."""
    draw = torch.Generator().manual_seed(num_features)
    shapes = {
        "patch_embed.0": (HIDDEN, num_features),
        "global_attn.attention_a.0": (ATTENTION, HIDDEN),
        "global_attn.attention_b.0": (ATTENTION, HIDDEN),
        "global_attn.attention_c": (1, ATTENTION),
    } | ({"classifier": (classes, HIDDEN)} if classes else {})
    weights = {}
    for name, (rows, columns) in shapes.items():
        weights[f"{prefix}{name}.weight"] = torch.randn(rows, columns, generator=draw) / columns**0.5
        weights[f"{prefix}{name}.bias"] = torch.randn(rows, generator=draw)
    weights |= changes
    if path.suffix == ".safetensors":
        pytest.importorskip("safetensors.torch").save_file(weights, path)
    else:
        torch.save(weights, path)
    return {name: value.double().numpy() for name, value in weights.items()}


def linear(num_features: int) -> dict:
    return {"name": "linear", "num_features": num_features, "hidden_dims": [HIDDEN]}


def bag_embedding(weights: dict[str, np.ndarray], bag: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """ABMIL of MIL-Lab by its equations: patch embedding, gated attention, weighted mean."""

    def layer(name, values):
        return values @ weights[f"model.{name}.weight"].T + weights[f"model.{name}.bias"]

    hidden = np.maximum(layer("patch_embed.0", bag), 0)
    gate = 1 / (1 + np.exp(-layer("global_attn.attention_b.0", hidden)))
    scores = layer("global_attn.attention_c", np.tanh(layer("global_attn.attention_a.0", hidden)) * gate)[:, 0]
    attention = np.exp(scores - scores.max()) / np.exp(scores - scores.max()).sum()
    return attention @ hidden, attention


@pytest.mark.parametrize("num_features", PUBLISHED)
@pytest.mark.parametrize("suffix", [".bin", ".safetensors"])
def test_a_file_of_the_published_shapes_gives_the_outputs_of_its_equations(num_features, suffix, tmp_path):
    path = tmp_path / f"weights{suffix}"
    weights = feather_file(path, num_features)
    network = FeatherMIL(linear(num_features), num_outputs=3, weights_path=str(path)).eval()
    pretrained = sum(
        value.numel() for name, value in network.named_parameters() if not name.startswith("classification_layer")
    )
    assert pretrained == num_features * 512 + 512 + 2 * (512 * 384 + 384) + 384 + 1
    bag = np.random.default_rng(0).normal(size=(11, num_features))
    output = network(torch.from_numpy(bag).float()[None])
    embedding, attention = bag_embedding(weights, bag)
    head = network.classification_layer
    logits = head.weight.detach().double().numpy() @ embedding + head.bias.detach().double().numpy()
    np.testing.assert_allclose(output.attention[0].detach(), attention, atol=1e-5)
    np.testing.assert_allclose(output.logits[0].detach(), logits, atol=1e-5)


def test_names_without_the_prefix_and_a_head_for_108_classes_load_as_well(tmp_path):
    feather_file(tmp_path / "a.bin", 768)
    feather_file(tmp_path / "b.bin", 768, prefix="", classes=108)
    networks = [FeatherMIL(linear(768), weights_path=str(tmp_path / f"{name}.bin")) for name in "ab"]
    states = [network.state_dict() for network in networks]
    for name, value in states[0].items():
        assert torch.equal(value, states[1][name]) or name.startswith("classification_layer")


@pytest.mark.parametrize(
    ("changes", "features", "message"),
    [
        (
            {},
            1024,
            r"'patch_embed.0.weight' is \(512, 768\), the network needs \(512, 1024\); its features have 768 values",
        ),
        ({"model.extra.weight": torch.ones(2)}, 768, "1 of its weights have no place here, first 'extra.weight'"),
        (
            {"model.global_attn.attention_c.weight": torch.ones(2, 384)},
            768,
            r"'global_attn.attention_c.weight' is \(2, 384\)",
        ),
        ({"model.patch_embed.0.bias": torch.full((512,), torch.nan)}, 768, "patch_embed.0.bias' has nan"),
    ],
)
def test_a_file_that_does_not_fit_is_refused_in_one_line(changes, features, message, tmp_path):
    feather_file(tmp_path / "weights.bin", 768, **changes)
    with pytest.raises(ValueError, match=message) as caught:
        FeatherMIL(linear(features), weights_path=str(tmp_path / "weights.bin"))
    assert "\n" not in str(caught.value)


def test_another_network_and_no_file_are_refused(tmp_path):
    torch.save({"layer.weight": torch.ones(2, 2)}, tmp_path / "other.bin")
    with pytest.raises(ValueError, match="is not FEATHER: it lacks 8 weights"):
        load_feather(FeatherMIL(linear(768)), tmp_path / "other.bin")
    with pytest.raises(FileNotFoundError, match=r"none\.bin"):
        FeatherMIL(linear(768), weights_path=str(tmp_path / "none.bin"))
    with pytest.raises(ValueError, match="set model/encoder=linear"):
        FeatherMIL({"name": "tile_cnn", "tile_size": 24, "embedding_dim": 16}, weights_path=str(tmp_path / "other.bin"))


def test_a_checkpoint_is_loaded_without_the_file_of_the_pretrained_weights(tmp_path):
    path = tmp_path / "weights.bin"
    feather_file(path, 768)
    network = FeatherMIL(linear(768), weights_path=str(path)).eval()
    save_network(network, tmp_path / "network.pt")
    path.unlink()
    assert load_card(tmp_path / "network.pt").network["arguments"]["weights_path"] == str(path)
    bags = torch.randn(1, 3, 768)
    assert torch.equal(load_network(tmp_path / "network.pt")(bags).logits, network(bags).logits)
