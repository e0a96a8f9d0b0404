"""Tests of the embeddings that a model of familiar slides is about."""

import numpy as np
import pytest
import torch

from milpath import models
from milpath.models import AttentionMIL, EmbeddingPoolMIL
from milpath.models.averaged_network import AveragedMILOutput, AveragedNetwork
from milpath.models.familiarity.embeddings import answer_with_distances, embed, pooled, unit
from milpath.models.familiarity.shrunk_gaussian import fit_gaussian
from milpath.models.network import MILNetwork
from milpath.targets import target_named

NETWORKS = [
    kind
    for name in models.__all__
    if isinstance(kind := getattr(models, name), type) and issubclass(kind, MILNetwork) and kind is not MILNetwork
]


def _network(kind: type[MILNetwork] = AttentionMIL, encoder: object = None) -> MILNetwork:
    torch.manual_seed(0)
    return kind(encoder=encoder or {"name": "linear", "num_features": 12, "hidden_dims": [8]}).eval()


def _bags() -> tuple[torch.Tensor, torch.Tensor]:
    generator = torch.Generator().manual_seed(1)
    tiles = torch.randn(3, 5, 12, generator=generator)
    mask = torch.arange(5)[None] < torch.tensor([[5], [2], [1]])
    return tiles, mask


@pytest.mark.parametrize("kind", NETWORKS, ids=lambda kind: kind.__name__)
def test_every_network_answers_as_it_does_without(kind: type[MILNetwork]) -> None:
    tiles, mask = _bags()
    network = _network(kind)
    with torch.inference_mode():
        output, embeddings = embed(network, tiles, mask)
        expected = network(tiles, mask)

    assert torch.equal(output.logits, expected.logits)
    assert torch.equal(output.attention, expected.attention)
    assert embeddings is not None
    assert pooled(output, embeddings).shape == (3, 12)
    assert bool(torch.isfinite(pooled(output, embeddings)).all())


def test_a_network_of_features_is_judged_by_the_features_themselves() -> None:
    tiles, mask = _bags()
    with torch.inference_mode():
        output, embeddings = embed(_network(), tiles, mask)

    assert embeddings is tiles
    torch.testing.assert_close(pooled(output, tiles)[2], tiles[2, 0])


def test_a_network_of_tiles_is_judged_by_what_its_encoder_gives() -> None:
    network = _network(encoder="lenet5")
    assert isinstance(network, AttentionMIL)
    tiles = torch.rand(2, 3, 1, 28, 28)
    with torch.inference_mode():
        output, embeddings = embed(network, tiles, None)
        assert embeddings is not None
        logits = network.classification_layer(pooled(output, embeddings))

    torch.testing.assert_close(embeddings, network.encode(tiles))
    torch.testing.assert_close(logits, output.logits, rtol=1e-4, atol=1e-5)


def test_a_network_of_your_own_without_encoder_has_no_embeddings() -> None:
    class Own(torch.nn.Module):
        def forward(self, tiles: torch.Tensor, mask: torch.Tensor | None = None) -> models.MILOutput:
            return models.MILOutput(tiles.mean((1, 2, 3, 4))[:, None], torch.ones(tiles.shape[:2]) / tiles.shape[1])

    assert embed(Own(), torch.rand(2, 3, 1, 4, 4), None)[1] is None


def test_padding_and_the_other_bags_of_a_batch_do_not_matter() -> None:
    tiles, mask = _bags()
    network = _network()
    rows = np.random.default_rng(0).normal(size=(40, 12))
    pair = (fit_gaussian(rows), fit_gaussian(rows))
    with torch.inference_mode():
        _, together = answer_with_distances(network, [pair], tiles, mask)
        for bag, length in enumerate((5, 2, 1)):
            _, single = answer_with_distances(network, [pair], tiles[bag : bag + 1, :length], None)
            np.testing.assert_allclose(single.of_bags()[0], together.of_bags()[bag], rtol=1e-5)
            assert together.tiles[bag].shape == (1, length)


def test_the_length_of_an_embedding_does_not_matter_and_zeros_stay_finite() -> None:
    rows = torch.from_numpy(np.random.default_rng(0).normal(size=(4, 12)).astype(np.float32))
    torch.testing.assert_close(unit(rows), unit(0.1 * rows))
    torch.testing.assert_close(unit(rows).norm(dim=1), torch.ones(4))
    assert unit(torch.zeros(1, 12)).tolist() == [[0.0] * 12]
    pair = (fit_gaussian(unit(rows).numpy()), fit_gaussian(unit(rows).numpy()))
    with torch.inference_mode():
        _, found = answer_with_distances(_network(), [pair], torch.zeros(1, 3, 12), None)
    assert np.isfinite(found.of_bags()).all()


def test_folds_answer_as_without_and_each_has_its_distance() -> None:
    tiles, mask = _bags()
    members = [_network(), _network(EmbeddingPoolMIL)]
    network = AveragedNetwork(members, [target_named("binary")] * 2, [1.0, 2.0]).eval()
    pairs = []
    for seed in range(2):
        rows = np.random.default_rng(seed).normal(size=(40, 12))
        pairs.append((fit_gaussian(rows), fit_gaussian(rows)))
    with torch.inference_mode():
        output, found = answer_with_distances(network, pairs, tiles, mask)
        expected = network(tiles, mask)
        _, second = answer_with_distances(members[1], pairs[1:], tiles, mask)

    assert torch.equal(output.logits, expected.logits)
    assert isinstance(output, AveragedMILOutput)
    assert torch.equal(output.spread, expected.spread)
    assert found.of_bags().shape == (3, 2, 2)
    np.testing.assert_allclose(found.of_bags()[:, 1], second.of_bags()[:, 0])


def test_a_model_of_another_network_is_refused() -> None:
    rows = np.random.default_rng(0).normal(size=(40, 5))
    pair = (fit_gaussian(rows), fit_gaussian(rows))

    with pytest.raises(ValueError, match="is of 5 numbers, the network has 12"):
        answer_with_distances(_network(), [pair], *_bags())
