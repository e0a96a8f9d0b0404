import numpy as np
import pytest
import torch

from milpath.data.loading.bag import Bag, collate_bags, empty_batch


@pytest.fixture
def bags() -> list[Bag]:
    rng = np.random.default_rng(0)
    return [
        Bag(rng.integers(0, 256, (length, 5, 5, 3), dtype=np.uint8), length % 2, f"slide_{length}", np.arange(length))
        for length in (3, 1, 4)
    ]


def test_padding_is_masked_and_zero(bags):
    batch = collate_bags(bags)
    assert batch.tiles.dtype == torch.uint8
    assert batch.tiles.shape == (3, 4, 5, 5, 3)
    assert batch.mask.sum(1).tolist() == [3, 1, 4]
    assert (batch.tiles[~batch.mask] == 0).all()
    assert (batch.tile_labels[~batch.mask] == -1).all()


def test_every_tile_keeps_its_place(bags):
    batch = collate_bags(bags)
    for row, bag in enumerate(bags):
        np.testing.assert_array_equal(batch.tiles[row, : len(bag.tiles)].numpy(), bag.tiles)
        assert batch.tile_labels[row, : len(bag.tiles)].tolist() == list(range(len(bag.tiles)))
    assert batch.labels.tolist() == [1, 1, 0]
    assert batch.bag_ids == ["slide_3", "slide_1", "slide_4"]


def test_unknown_tile_labels_are_minus_one(bags):
    assert (collate_bags([bag._replace(tile_labels=None) for bag in bags]).tile_labels == -1).all()


def test_global_size_is_the_number_of_bags_unless_it_is_said(bags):
    assert collate_bags(bags).global_size == 3
    assert collate_bags(bags, global_size=7).global_size == 7


def test_an_empty_batch_has_no_bag_and_a_loss_of_zero_with_a_gradient():
    batch = empty_batch((4,), np.dtype(np.float32), global_size=2)
    layer = torch.nn.Linear(4, 1)
    loss = layer(batch.tiles).sum() / batch.global_size
    loss.backward()
    assert loss.item() == 0
    assert layer.weight.grad is not None
    assert (layer.weight.grad == 0).all()
    assert batch.mask.shape == (0, 1)


def test_a_network_is_given_a_mask_only_where_there_is_padding(bags):
    batch = collate_bags(bags)
    assert batch.padded
    assert batch.network_mask is batch.mask
    for whole in (collate_bags(bags[:1]), empty_batch((4,), np.dtype(np.float32), global_size=2)):
        assert whole.mask.all()
        assert not whole.padded
        assert whole.network_mask is None
