import numpy as np
import torch

from milpath.data.loading.augmentation import TileAugmentation
from milpath.data.loading.batch_preparation import Preparation
from milpath.data.loading.standardization import FeatureStatistics

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
