import numpy as np
import pytest
import torch

from milpath.data.loading.augmentation import TileAugmentation
from milpath.data.loading.batch_preparation import FeatureStatistics, Preparation, fit_statistics

MASK = torch.tensor([[True, True, True], [True, False, False]])


def test_bytes_become_numbers_from_0_to_1_channels_first():
    stored = torch.tensor([[0, 51], [102, 255]], dtype=torch.uint8).view(1, 1, 2, 2, 1)
    prepared = Preparation()(stored, torch.ones(1, 1, dtype=torch.bool), 0, padded=False)
    torch.testing.assert_close(prepared, torch.tensor([[0.0, 0.2], [0.4, 1.0]]).view(1, 1, 1, 2, 2))


def test_padding_stays_zero_under_augmentation_and_standardisation():
    tiles = torch.randint(1, 256, (2, 3, 6, 6, 3), dtype=torch.uint8) * MASK[..., None, None, None]
    prepared = Preparation(TileAugmentation("full"))(tiles, MASK, 3, padded=True)
    assert (prepared[~MASK] == 0).all()
    features = torch.rand(2, 3, 4) * MASK[..., None]
    statistics = FeatureStatistics(np.full(4, 5.0), np.full(4, 2.0))
    prepared = Preparation(statistics=statistics)(features, MASK, 0, padded=True)
    assert (prepared[~MASK] == 0).all()
    torch.testing.assert_close(prepared[MASK], (features[MASK] - 5) / 2)


def test_half_precision_features_become_float32():
    features = torch.rand(1, 2, 4).half()
    assert Preparation()(features, torch.ones(1, 2, dtype=torch.bool), 0, padded=False).dtype == torch.float32


def test_statistics_are_those_of_the_chosen_bags_alone(open_store):
    store = open_store([3, 7, 2, 5], tile_shape=(11,))
    statistics = fit_statistics(store, [0, 2])
    rows = np.concatenate([store.tiles[store.tile_slice(index)] for index in (0, 2)]).astype(np.float64)
    np.testing.assert_allclose(statistics.mean, rows.mean(0), rtol=1e-12)
    np.testing.assert_allclose(statistics.std, rows.std(0), rtol=1e-12)


def test_standardised_training_features_have_mean_0_and_deviation_1(open_store):
    store = open_store([30, 20], tile_shape=(5,))
    applied = fit_statistics(store, [0, 1]).apply(torch.from_numpy(np.array(store.tiles)))
    torch.testing.assert_close(applied.mean(0), torch.zeros(5), atol=1e-5, rtol=0)
    torch.testing.assert_close(applied.std(0, correction=0), torch.ones(5), atol=1e-5, rtol=0)


def test_a_constant_feature_becomes_zero(tmp_path):
    from milpath.data.store.bag_store import BagStore
    from milpath.data.store.bag_store_writer import BagStoreWriter

    features = np.random.default_rng(0).normal(size=(1000, 3)).astype(np.float32)
    features[:, 1] = 0.1
    with BagStoreWriter(tmp_path / "store") as writer:
        writer.add("a", features[:500], {"label": 0})
        writer.add("b", features[500:], {"label": 1})
    applied = fit_statistics(BagStore.open(tmp_path / "store"), [0, 1]).apply(torch.from_numpy(features))
    assert torch.isfinite(applied).all()
    torch.testing.assert_close(applied[:, 1], torch.zeros(1000), atol=1e-6, rtol=0)


def test_far_from_zero_nothing_cancels(tmp_path):
    from milpath.data.store.bag_store import BagStore
    from milpath.data.store.bag_store_writer import BagStoreWriter

    features = (np.random.default_rng(0).normal(size=(400, 2)) + 1e5).astype(np.float32)
    with BagStoreWriter(tmp_path / "store") as writer:
        for number in range(4):
            writer.add(str(number), features[100 * number : 100 * number + 100], {"label": 0})
    statistics = fit_statistics(BagStore.open(tmp_path / "store"), range(4))
    np.testing.assert_allclose(statistics.std, features.astype(np.float64).std(0), rtol=1e-9)


def test_statistics_survive_plain_values():
    statistics = FeatureStatistics(np.array([1.0, 2.0]), np.array([0.5, 1.0]))
    again = FeatureStatistics.from_dict(statistics.to_dict())
    assert again.mean.tolist() == [1.0, 2.0]
    assert again.std.tolist() == [0.5, 1.0]


def test_images_are_not_standardised(open_store):
    with pytest.raises(ValueError, match="data.standardize is for feature bags"):
        fit_statistics(open_store([2, 2]), [0])
