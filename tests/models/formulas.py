"""Numpy counterparts of layers, and the comparison of a network with its formula, bag by bag."""

import numpy as np
import torch

LINEAR = {"name": "linear", "num_features": 5, "hidden_dims": [6]}
RNG = np.random.default_rng(3)
BAGS = [RNG.normal(size=(length, 5)) for length in (4, 1, 7)]


def batch() -> tuple[torch.Tensor, torch.Tensor]:
    tiles = torch.zeros(3, 7, 5, dtype=torch.float64)
    mask = torch.zeros(3, 7, dtype=torch.bool)
    for index, bag in enumerate(BAGS):
        tiles[index, : len(bag)] = torch.from_numpy(bag)
        mask[index, : len(bag)] = True
    return tiles, mask


def weights(layer: torch.nn.Module) -> tuple[np.ndarray, np.ndarray]:
    return layer.weight.detach().numpy(), layer.bias.detach().numpy()


def apply(layer: torch.nn.Module, values: np.ndarray) -> np.ndarray:
    matrix, bias = weights(layer)
    return values @ matrix.T + bias


def softmax(values: np.ndarray) -> np.ndarray:
    e = np.exp(values - values.max(0))
    return e / e.sum(0)


def sigmoid(values: np.ndarray) -> np.ndarray:
    return 1 / (1 + np.exp(-values))


def check(network, formula):
    network = network.double().eval()
    tiles, mask = batch()
    output = network(tiles, mask)
    for index, bag in enumerate(BAGS):
        hidden = np.maximum(apply(network.tile_encoder.network.layers[0], bag), 0)
        logits, attention = formula(network, hidden)
        np.testing.assert_allclose(output.logits[index].detach(), logits, atol=1e-10)
        np.testing.assert_allclose(output.attention[index, : len(bag)].detach(), attention, atol=1e-10)
