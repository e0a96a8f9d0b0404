"""Each network against its formula, written once more in numpy with loops over bags and tiles."""

import numpy as np
import pytest
import torch

from milpath.models import CLAMSB, DSMIL, AttentionMIL, EmbeddingPoolMIL, InstancePoolMIL, TransMIL
from milpath.models.networks.trans_mil import NystromAttention, pseudo_inverse
from tests.models.formulas import LINEAR, RNG, apply, check, sigmoid, softmax, weights


@pytest.fixture(autouse=True)
def equal_weights_in_every_run():
    torch.manual_seed(0)


@pytest.mark.parametrize("gated", [False, True])
def test_attention(gated):
    def formula(network, hidden):
        pooling = network.attention_pooling
        values = np.tanh(apply(pooling.tanh_layer, hidden))
        if gated:
            values = values * sigmoid(apply(pooling.gate_layer, hidden))
        attention = softmax(apply(pooling.score_layer, values)[:, 0])
        return apply(network.classification_layer, attention @ hidden), attention

    check(AttentionMIL(encoder=LINEAR, gated=gated, num_outputs=3, attention_dim=4), formula)


POOL = {
    "mean": lambda values: values.mean(0),
    "max": lambda values: values.max(0),
    "log_sum_exp": lambda values: np.log(np.exp(1.7 * values).mean(0)) / 1.7,
}
SHARE = {
    "mean": lambda values: np.full(len(values), 1 / len(values)),
    "max": lambda values: ((values == values.max(0)) / (values == values.max(0)).sum(0)).mean(1),
    "log_sum_exp": lambda values: softmax(1.7 * values).mean(1),
}


@pytest.mark.parametrize("pooling", POOL)
def test_embedding_level_pooling(pooling):
    check(
        EmbeddingPoolMIL(encoder=LINEAR, pooling=pooling, num_outputs=2, sharpness=1.7),
        lambda network, hidden: (apply(network.classification_layer, POOL[pooling](hidden)), SHARE[pooling](hidden)),
    )


@pytest.mark.parametrize("pooling", POOL)
def test_instance_level_pooling(pooling):
    def formula(network, hidden):
        scores = apply(network.classification_layer, hidden)
        if pooling == "mean":
            probability = sigmoid(scores).mean(0)
            return np.log(probability / (1 - probability)), SHARE[pooling](scores)
        return POOL[pooling](scores), SHARE[pooling](scores)

    check(InstancePoolMIL(encoder=LINEAR, pooling=pooling, num_outputs=2, sharpness=1.7), formula)


def test_dsmil():
    def formula(network, hidden):
        scores = apply(network.instance_layer, hidden)
        queries = np.tanh(apply(network.query_layers[2], np.maximum(apply(network.query_layers[0], hidden), 0)))
        values = np.maximum(apply(network.value_layers[1], hidden), 0)
        filters, bias = weights(network.bag_layer)
        embeddings, attention = [], []
        for number in range(2):
            critical = scores[:, number].argmax()
            weight = softmax(queries @ queries[critical] / np.sqrt(4))
            attention.append(weight)
            embeddings.append(weight @ values)
        bag = np.array([(filters[number] * np.array(embeddings)).sum() + bias[number] for number in range(2)])
        return (scores.max(0) + bag) / 2, np.mean(attention, 0)

    check(DSMIL(encoder=LINEAR, num_outputs=2, query_dim=4), formula)


def test_clam():
    def formula(network, hidden):
        hidden = np.maximum(apply(network.hidden_layers[0], hidden), 0)
        pooling = network.attention_pooling
        gate = np.tanh(apply(pooling.tanh_layer, hidden)) * sigmoid(apply(pooling.gate_layer, hidden))
        attention = softmax(apply(pooling.score_layer, gate)[:, 0])
        return apply(network.classification_layer, attention @ hidden), attention

    check(CLAMSB(encoder=LINEAR, hidden_dim=8, attention_dim=3), formula)


def nystrom_in_numpy(layer: NystromAttention, tokens: np.ndarray, landmarks: int | None = None) -> np.ndarray:
    """Without landmarks: the exact attention S, which S pinv(S) S is as well but loses half its digits, S being flat."""
    length, dim = tokens.shape
    heads, width = layer.num_heads, dim // layer.num_heads
    projected = tokens @ layer.input_layer.weight.detach().numpy().T
    kernel = layer.value_convolution.weight.detach().numpy()
    result = []
    for head in range(heads):
        q, k, v = (projected[:, part * dim + head * width : part * dim + (head + 1) * width] for part in range(3))
        q = q / np.sqrt(width)
        segment = -(-length // landmarks) if landmarks else 1
        starts = range(0, length, segment)
        q_mean, k_mean = (np.array([x[s : s + segment].mean(0) for s in starts]) for x in (q, k))
        rows = [softmax((a @ b.T).T).T for a, b in ((q, k_mean), (q_mean, k_mean), (q_mean, k))]
        mixed = rows[0] @ np.linalg.pinv(rows[1]) @ rows[2] @ v if landmarks else rows[0] @ v
        half = kernel.shape[2] // 2
        padded = np.pad(v, ((half, half), (0, 0)))
        mixed += sum(kernel[head, 0, i, 0] * padded[i : i + length] for i in range(kernel.shape[2]))
        result.append(mixed)
    return apply(layer.output_layer, np.concatenate(result, 1))


@pytest.mark.parametrize(("length", "landmarks"), [(23, 5), (12, 4)])
def test_nystrom_attention_equals_its_formula_with_the_true_inverse(length, landmarks):
    layer = NystromAttention(16, num_heads=2, num_landmarks=landmarks, num_iterations=40, kernel_size=3).double()
    tokens = RNG.normal(size=(length, 16))
    mixed, first = layer(torch.from_numpy(tokens)[None])
    np.testing.assert_allclose(mixed[0].detach(), nystrom_in_numpy(layer, tokens, landmarks), atol=1e-6)
    assert first.sum().item() == pytest.approx(1)


def test_nystrom_attention_of_a_short_sequence_is_the_exact_attention():
    layer = NystromAttention(16, num_heads=2, num_landmarks=64, kernel_size=3).double()
    tokens = RNG.normal(size=(9, 16))
    mixed, _ = layer(torch.from_numpy(tokens)[None])
    # With every token a landmark the three factors are S, pinv(S) and S, whose product is S.
    np.testing.assert_allclose(mixed[0].detach(), nystrom_in_numpy(layer, tokens, 9), atol=1e-6)


def test_the_iterated_inverse_is_that_of_numpy():
    matrix = torch.from_numpy(RNG.random((2, 5, 5))).softmax(-1) + 0.2 * torch.eye(5)
    np.testing.assert_allclose(pseudo_inverse(matrix, 30), np.linalg.pinv(matrix), atol=1e-8)


def test_the_mean_probability_stays_finite_where_probabilities_round_to_0_and_1():
    network = InstancePoolMIL(encoder=LINEAR, pooling="mean")
    torch.nn.init.constant_(network.classification_layer.weight, 100.0)
    output = network(torch.full((1, 3, 5), 30.0))
    output.logits.sum().backward()
    assert output.logits.abs().item() > 100
    assert all(torch.isfinite(value.grad).all() for value in network.parameters())


def layer_norm(layer: torch.nn.LayerNorm, values: np.ndarray) -> np.ndarray:
    matrix, bias = weights(layer)
    centred = values - values.mean(-1, keepdims=True)
    return centred / np.sqrt(values.var(-1, keepdims=True) + layer.eps) * matrix + bias


def class_token_weights(layer: NystromAttention, tokens: np.ndarray) -> np.ndarray:
    dim = tokens.shape[1]
    width = dim // layer.num_heads
    projected = tokens @ layer.input_layer.weight.detach().numpy().T
    heads = []
    for head in range(layer.num_heads):
        query = projected[0, head * width : (head + 1) * width]
        keys = projected[:, dim + head * width : dim + (head + 1) * width]
        heads.append(softmax(keys @ query / np.sqrt(width)))
    return np.mean(heads, 0)


def convolve(layer: torch.nn.Conv2d, grid: np.ndarray) -> np.ndarray:
    kernel, bias = weights(layer)
    half, side = kernel.shape[2] // 2, len(grid)
    result = np.tile(bias, (side, side, 1))
    for row, column, i, j in np.ndindex(side, side, kernel.shape[2], kernel.shape[3]):
        y, x = row + i - half, column + j - half
        if 0 <= y < side and 0 <= x < side:
            result[row, column] += kernel[:, 0, i, j] * grid[y, x]
    return result


def test_trans_mil():
    def formula(network, hidden):
        tiles = np.maximum(apply(network.hidden_layer[0], hidden), 0)
        side = int(np.ceil(np.sqrt(len(tiles))))
        order = [*range(len(tiles)), *range(side * side - len(tiles))]
        tokens = np.concatenate([network.class_token.detach().numpy()[0], tiles[order]])
        tokens = tokens + nystrom_in_numpy(network.attention1, layer_norm(network.norm1, tokens))
        grid = tokens[1:].reshape(side, side, -1)
        grid = grid + sum(convolve(layer, grid) for layer in network.convolutions)
        tokens = np.concatenate([tokens[:1], grid.reshape(side * side, -1)])
        normed = layer_norm(network.norm2, tokens)
        token = layer_norm(network.norm3, tokens + nystrom_in_numpy(network.attention2, normed))[0]
        attention = np.zeros(len(tiles))
        for tile, weight in zip(order, class_token_weights(network.attention2, normed)[1:], strict=True):
            attention[tile] += weight
        return apply(network.classification_layer, token), attention / attention.sum()

    check(TransMIL(encoder=LINEAR, num_outputs=2, hidden_dim=16), formula)
