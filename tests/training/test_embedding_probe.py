"""Tests of the fit of the model of familiar slides: the same bags give the same model, whatever the batches are."""

import numpy as np
import pytest
import torch

from milpath.models import AttentionMIL
from milpath.training import embedding_probe
from milpath.training.embedding_probe import MOST_PER_BAG, MOST_TILES, EmbeddingProbe, FittingProbe, SeenBag


def _network() -> AttentionMIL:
    torch.manual_seed(0)
    return AttentionMIL(encoder={"name": "linear", "num_features": 6, "hidden_dims": [4]}).eval()


def _bags(count: int, seed: int = 0) -> list[torch.Tensor]:
    generator = torch.Generator().manual_seed(seed)
    return [torch.randn(2 + number % 4, 6, generator=generator) for number in range(count)]


def _seen(probe: EmbeddingProbe, bags: list[torch.Tensor], batch: int) -> list[SeenBag]:
    """Predict bags in padded batches, as a trainer does."""
    found = []
    for start in range(0, len(bags), batch):
        chosen = bags[start : start + batch]
        lengths = torch.tensor([len(bag) for bag in chosen])
        tiles = torch.nn.utils.rnn.pad_sequence(chosen, batch_first=True)
        mask = torch.arange(tiles.shape[1])[None] < lengths[:, None]
        with torch.inference_mode():
            found += probe.answer(_network(), tiles, None if bool(mask.all()) else mask)[1]
    return found


def _fitted(batch: int = 5, num_val: int = 12) -> FittingProbe:
    probe = FittingProbe(30, 0.05)
    for split, bags in (("train", _bags(30)), ("val", _bags(num_val, 1)), ("test", _bags(7, 2))):
        if bags:
            probe.see(split, _seen(probe, bags, batch))
    return probe


def _flat(state: object) -> list[torch.Tensor]:
    if isinstance(state, torch.Tensor):
        return [state]
    return [tensor for item in state.values() for tensor in _flat(item)] if isinstance(state, dict) else []


def test_the_model_does_not_depend_on_the_batches() -> None:
    one, other = _fitted(1), _fitted(30)

    for first, second in zip(_flat(one.state()), _flat(other.state()), strict=True):
        torch.testing.assert_close(first, second, rtol=1e-4, atol=2e-4)
    assert one.familiarity is not None
    assert one.familiarity.models[0].num_bags == 30
    assert len(one.familiarity.scores) == 12


def test_the_same_batches_give_the_same_model_to_the_last_bit() -> None:
    for first, second in zip(_flat(_fitted().state()), _flat(_fitted().state()), strict=True):
        assert torch.equal(first, second)


def test_a_later_evaluation_finds_the_same_numbers() -> None:
    fitted = _fitted()
    probe = EmbeddingProbe(fitted.familiarity)
    for split, bags in (("train", _bags(30)), ("val", _bags(12, 1)), ("test", _bags(7, 2))):
        probe.see(split, _seen(probe, bags, 5))

    expected, found = fitted.table(), probe.table()
    assert expected is not None
    assert found is not None
    assert expected.shape == (49, 3)
    np.testing.assert_allclose(found, expected, atol=2e-4)


def test_long_bags_and_large_splits_give_a_bounded_sample() -> None:
    assert FittingProbe(10, None).tiles_per_bag == MOST_PER_BAG
    assert FittingProbe(1000, None).tiles_per_bag == MOST_TILES // 1000
    assert FittingProbe(10**6, None).tiles_per_bag == 1
    probe = FittingProbe(1000, None)
    (bag,) = _seen(probe, [torch.randn(500, 6)], 1)
    assert bag.tiles.shape == (8, 6)
    assert bag.embedding.shape == (6,)


@pytest.mark.parametrize(
    ("probe", "reason"),
    [
        (_fitted(num_val=0), "no validation split"),
        (FittingProbe(0, None), "no validation split"),
        (FittingProbe(30, None, compares=False), "no validation split"),
    ],
)
def test_without_validation_bags_there_is_no_model_and_a_reason(probe: FittingProbe, reason: str) -> None:
    assert reason in probe.reason
    assert probe.state() == {}
    assert probe.table() is None


def test_a_split_of_equal_bags_gives_no_model_and_a_reason() -> None:
    probe = FittingProbe(4, 0.05)
    probe.see("train", _seen(probe, [torch.ones(3, 6)] * 4, 2))
    probe.see("val", _seen(probe, _bags(9), 3))

    assert "no covariance of its 4 training bags" in probe.reason
    assert probe.table() is None


def test_a_network_without_embeddings_gives_no_model_and_a_reason() -> None:
    probe = FittingProbe(4, 0.05)
    probe.see("train", [])
    probe.see("val", [])

    assert probe.reason == "the network has no embeddings"
    assert probe.state() == {}


def test_nothing_is_kept_of_training_bags_that_no_validation_bag_is_compared_with(monkeypatch) -> None:
    monkeypatch.setattr(embedding_probe, "embed", None)
    monkeypatch.setattr(embedding_probe, "fit_gaussian", None)
    probe = FittingProbe(4, None, compares=False)
    assert _seen(probe, _bags(4), 2) == []
    probe.see("train", [])
    probe.see("test", [])
    assert probe.state() == {}
    assert probe.table() is None
