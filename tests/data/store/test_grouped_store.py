"""A store seen by patient has the tiles of all slides of a patient, and copies nothing."""

import numpy as np
import pandas as pd
import pytest

from milpath.data.loading.bag_split import BagSplit
from milpath.data.loading.batch_preparation import fit_statistics
from milpath.data.loading.device_cache import DeviceCache
from milpath.data.loading.tile_sample import TileSample
from milpath.data.store.grouped_store import GroupedStore

LENGTHS = [3, 5, 2, 4, 7]
MEMBERS = [np.array([0, 3]), np.array([1]), np.array([2, 4])]


@pytest.fixture
def slides(open_store):
    return open_store(LENGTHS, tile_shape=(6,), tile_labels=True)


@pytest.fixture
def grouped(slides):
    return GroupedStore(slides, pd.DataFrame({"bag_id": ["P0", "P1", "P2"], "label": [0, 1, 0]}), MEMBERS)


def of_patient(slides, number):
    return np.concatenate([slides.read(int(slide)) for slide in MEMBERS[number]])


def test_a_bag_is_all_tiles_of_its_slides_in_their_order(slides, grouped):
    assert grouped.num_tiles.tolist() == [7, 5, 9]
    assert len(grouped) == 3
    for number in range(3):
        expected = of_patient(slides, number)
        assert np.array_equal(grouped.read(number), expected)
        assert np.array_equal(grouped.tiles[grouped.tile_slice(number)], expected)
    out = np.full((2, 9, 6), np.nan, np.float32)
    grouped.read_padded([2, 0], out)
    assert np.array_equal(out[0], of_patient(slides, 2))
    assert not out[1, 7:].any()


def test_nothing_is_copied(slides, grouped):
    assert grouped.tiles is slides.tiles
    assert np.shares_memory(grouped.tiles, slides.tiles)
    assert isinstance(grouped.tile_slice(1), slice)


def test_tiles_keep_their_slide(grouped):
    rows = grouped.tiles_table.iloc[grouped.tile_slice(0)]
    assert rows["bag_id"].tolist() == ["P0"] * 7
    assert rows["slide"].tolist() == ["bag_000"] * 3 + ["bag_003"] * 4
    assert [(part.position, part.rows) for part in grouped.slides_of(2)] == [(2, slice(0, 2)), (4, slice(2, 9))]


def test_batches_of_patients_are_those_of_bags_put_together_by_hand(slides, grouped):
    batch = BagSplit(grouped, np.arange(3), np.array([0, 1, 0])).gather([0, 2], 2)
    for row, number in enumerate((0, 2)):
        expected = of_patient(slides, number)
        assert np.array_equal(batch.tiles[row, : len(expected)].numpy(), expected)
        assert batch.mask[row].sum() == len(expected)
        labels = np.concatenate([np.arange(LENGTHS[slide]) % 2 for slide in MEMBERS[number]])
        assert batch.tile_labels[row, : len(labels)].tolist() == labels.tolist()


@pytest.mark.parametrize("cached", [False, True])
def test_a_sample_of_tiles_is_the_same_from_file_and_from_the_device(slides, grouped, cached):
    bags, sample = BagSplit(grouped, np.arange(3), np.array([0, 1, 0])), TileSample(4, seed=1, epoch=2)
    if cached:
        cache = DeviceCache(grouped, "always")
        cache.prepare("cpu")
        tiles = cache.take(bags.gather_rows([0, 2], 2, sample).tiles).numpy()
    else:
        tiles = bags.gather([0, 2], 2, sample=sample).tiles.numpy()
    assert tiles.shape == (2, 4, 6)
    for row, number in enumerate((0, 2)):
        everything = of_patient(slides, number)
        assert np.array_equal(tiles[row], everything[sample.chosen(number, len(everything))])
    assert not np.array_equal(sample.chosen(2, 9), sample._replace(epoch=3).chosen(2, 9))


def test_statistics_are_those_of_the_slides(slides, grouped):
    found, expected = fit_statistics(grouped, [0, 2]), fit_statistics(slides, [0, 3, 2, 4])
    assert np.array_equal(found.mean, expected.mean)
    assert np.array_equal(found.std, expected.std)


def test_the_digest_says_how_slides_are_grouped(slides, grouped):
    other = GroupedStore(slides, grouped.bags[["bag_id", "label"]], [np.array([0]), np.array([1, 3]), np.array([2, 4])])
    assert len({slides.content_digest(), grouped.content_digest(), other.content_digest()}) == 3


def test_a_slide_is_in_one_bag_only(slides):
    with pytest.raises(ValueError, match="each slide in one bag only"):
        GroupedStore(slides, pd.DataFrame({"bag_id": ["a", "b"]}), [np.array([0, 1]), np.array([1])])
