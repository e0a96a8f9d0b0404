"""The published reference models in float64, number by number."""

import json

import numpy as np
import pytest
import torch

from milpath.models import AttentionMIL
from milpath.targets import target_named

ORDER = {
    "attention": ["attention.0", "attention.2"],
    "gated_attention": ["attention_V.0", "attention_U.0", "attention_w"],
}
OURS = {
    "feature_extractor_part1.0": "tile_encoder.network.conv1",
    "feature_extractor_part1.3": "tile_encoder.network.conv2",
    "feature_extractor_part2.0": "tile_encoder.network.linear",
    "attention.0": "attention_pooling.tanh_layer",
    "attention.2": "attention_pooling.score_layer",
    "attention_V.0": "attention_pooling.tanh_layer",
    "attention_U.0": "attention_pooling.gate_layer",
    "attention_w": "attention_pooling.score_layer",
    "classifier.0": "classification_layer",
}


def our_name(name: str) -> str:
    module, _, kind = name.rpartition(".")
    return f"{OURS[module]}.{kind}"


@pytest.fixture(scope="module")
def golden(shared_data):
    return json.loads((shared_data / "reference" / "golden_abmil_mnist_bag.json").read_text())


@pytest.fixture(scope="module")
def digits(shared_data, golden):
    images = np.load(shared_data / "mnist" / "mnist.npz")["x_train"][golden["mnist_train_indices"]]
    # The reference normalises in float32 and continues in float64: our network must not normalise once more.
    normalised = (torch.from_numpy(images).float() / 255 - 0.1307) / 0.3081
    return normalised.double()[None, :, None]


@pytest.fixture(scope="module", params=["attention", "gated_attention"])
def case(request, golden):
    model = golden["models"][request.param]
    network = AttentionMIL(encoder="lenet5", gated=request.param == "gated_attention")
    generator = np.random.default_rng(0)
    weights = {}
    for name, shape, scale in model["parameters"]:
        drawn = (generator.standard_normal(shape) * scale).astype(np.float32)
        weights[our_name(name)] = torch.from_numpy(drawn)
    assert weights.keys() == dict(network.named_parameters()).keys()
    network.load_state_dict(weights | dict(network.named_buffers()))
    network = network.double().eval()
    network.tile_encoder.network.normalise = torch.nn.Identity()
    return network, model


def test_the_reference_networks_have_the_published_number_of_parameters(case):
    network, model = case
    assert sum(parameter.numel() for parameter in network.parameters()) == model["n_parameters"]


def test_probability_logit_scores_and_attention_equal_the_reference(case, digits):
    network, model = case
    output = network(digits)
    probability = target_named("binary").probabilities(output.logits)[0, 1].item()
    assert probability == pytest.approx(model["label_1"]["y_prob"], abs=1e-6)
    assert output.logits.item() == pytest.approx(model["logit"], abs=1e-6)
    scores = network.attention_pooling(network.encode(digits))[0]
    np.testing.assert_allclose(scores.detach(), model["attention_scores_pre_softmax"], atol=1e-6)
    np.testing.assert_allclose(output.attention[0].detach(), model["label_1"]["attention"], atol=1e-6)


@pytest.mark.parametrize("label", [0, 1])
def test_loss_and_gradient_of_every_parameter_equal_the_reference(case, digits, label):
    network, model = case
    expected = model[f"label_{label}"]
    network.zero_grad()
    loss = target_named("binary").losses(network(digits).logits, torch.tensor([label])).sum()
    loss.backward()
    assert loss.item() == pytest.approx(expected["nll"], abs=1e-6)
    gradients = {name: parameter.grad.norm().item() for name, parameter in network.named_parameters()}
    for name, norm in expected["grad_l2"].items():
        assert gradients[our_name(name)] == pytest.approx(norm, abs=1e-6), name


def test_our_own_normalisation_equals_that_of_the_reference(golden, shared_data, digits):
    network = AttentionMIL(encoder="lenet5")
    images = np.load(shared_data / "mnist" / "mnist.npz")["x_train"][golden["mnist_train_indices"]]
    tiles = torch.from_numpy(images)[:, None].float() / 255
    torch.testing.assert_close(network.tile_encoder.network.normalise(tiles), digits[0].float(), atol=2e-6, rtol=0)


def test_the_default_network_is_that_of_the_article():
    assert sum(parameter.numel() for parameter in AttentionMIL().parameters()) == 22_465_238
