import threading
from pathlib import Path

import numpy as np
import pytest
import torch

from milpath.data.loading import loader as loading
from milpath.data.loading.augmentation import TileAugmentation
from milpath.data.loading.bag_split import BagSplit
from milpath.data.loading.batch_plan import EvaluationPlan, TrainingPlan
from milpath.data.loading.batch_preparation import Preparation
from milpath.data.loading.device_cache import DeviceCache
from milpath.data.loading.loader import BagLoader
from milpath.data.store.bag_store import BagStore


def loader_of(store, plan=None, augmentation="none", num_workers=0, cache="never", batch_size=3):
    labels = store.bags["label"].to_numpy()
    split = BagSplit(store, np.arange(len(store)), labels)
    plan = plan or EvaluationPlan(split.lengths, batch_size)
    augment = TileAugmentation(augmentation) if augmentation != "none" else None
    return BagLoader(split, plan, Preparation(augment), DeviceCache(store, cache), num_workers)


def test_tiles_are_floats_in_the_place_of_the_store(open_store):
    store = open_store([4, 2, 3, 4], tile_labels=True)
    seen = 0
    for batch in loader_of(store):
        batch = batch.to("cpu")
        assert batch.tiles.dtype == torch.float32
        for row, bag_id in enumerate(batch.bag_ids):
            index = store.bags["bag_id"].tolist().index(bag_id)
            expected = store.tiles[store.tile_slice(index)].astype(np.float32) / np.float32(255)
            length = int(batch.mask[row].sum())
            assert length == store.num_tiles[index]
            np.testing.assert_allclose(batch.tiles[row, :length].permute(0, 2, 3, 1), expected, rtol=1e-6)
            assert (batch.tiles[row, length:] == 0).all()
            assert batch.labels[row] == store.bags["label"][index]
            assert batch.tile_labels[row, :length].tolist() == [number % 2 for number in range(length)]
            assert (batch.tile_labels[row, length:] == -1).all()
            seen += 1
    assert seen == 4


def test_tiles_lie_channels_last_for_the_convolution(open_store):
    batch = next(iter(loader_of(open_store([4, 4])))).to("cpu")
    assert batch.tiles.flatten(0, 1).is_contiguous(memory_format=torch.channels_last)


@pytest.mark.parametrize("lengths", [[4] * 9, [1, 5, 2, 8, 3, 3, 4, 6, 2]])
@pytest.mark.parametrize("tile_shape", [(6, 6, 3), (5,)])
def test_threads_and_device_cache_change_nothing(open_store, lengths, tile_shape, monkeypatch):
    monkeypatch.setattr(loading, "_SMALL_BATCH", -1)
    store = open_store(lengths, tile_shape=tile_shape)
    labels = store.bags["label"].to_numpy()
    augmentation = "full" if len(tile_shape) == 3 else "none"

    def batches(**options):
        plan = TrainingPlan(labels, store.num_tiles, 2, seed=5)
        return [batch.to("cpu") for batch in loader_of(store, plan, augmentation, **options)]

    expected = batches()
    for options in ({"num_workers": 1}, {"num_workers": 3}, {"cache": "always"}, {"cache": "always", "num_workers": 2}):
        for batch, other in zip(expected, batches(**options), strict=True):
            assert batch.bag_ids == other.bag_ids
            assert torch.equal(batch.tiles, other.tiles)
            assert torch.equal(batch.mask, other.mask)
            assert torch.equal(batch.tile_labels, other.tile_labels)


def test_augmentation_follows_from_seed_and_epoch_not_from_torchs_state(open_store):
    store = open_store([3] * 6)
    labels = store.bags["label"].to_numpy()

    def tiles(epoch, seed=0):
        plan = TrainingPlan(labels, store.num_tiles, 2, seed=seed)
        plan.set_epoch(epoch)
        return torch.cat([batch.to("cpu").tiles for batch in loader_of(store, plan, "full")])

    torch.manual_seed(1)
    one = tiles(0)
    torch.manual_seed(2)
    assert torch.equal(tiles(0), one)
    assert not torch.equal(tiles(1), one)


def test_a_resumed_loader_goes_on_where_it_stopped(open_store):
    store = open_store([2] * 20)
    labels = store.bags["label"].to_numpy()

    def loader(epoch):
        made = loader_of(store, TrainingPlan(labels, store.num_tiles, 3, seed=1), num_workers=1)
        made.sampler.set_epoch(epoch)
        return made

    whole = [batch.batch.bag_ids for batch in loader(epoch=2)]
    interrupted = loader(epoch=2)
    iterator = iter(interrupted)
    first = [next(iterator).batch.bag_ids for _ in range(3)]
    state = interrupted.state_dict()
    assert state == {"epoch": 2, "position": 3}
    resumed = loader(epoch=2)
    resumed.load_state_dict(state)
    assert first + [batch.batch.bag_ids for batch in resumed] == whole
    # The epochs after it are whole again, also when the checkpoint was written at the end of an epoch.
    assert [batch.batch.bag_ids for batch in resumed] == whole
    later = loader(epoch=3)
    later.load_state_dict({"epoch": 2, "position": 7})
    assert len(list(later)) == len(whole)


def test_an_error_in_a_thread_reaches_the_reader(open_store, monkeypatch):
    monkeypatch.setattr(loading, "_SMALL_BATCH", -1)
    loader = loader_of(open_store([2] * 6), num_workers=2)
    monkeypatch.setattr(BagSplit, "gather", lambda *arguments: 1 / 0)
    with pytest.raises(ZeroDivisionError):
        list(loader)


@pytest.mark.parametrize(("num_features", "expected"), [(8, {"MainThread"}), (40_000, {"milpath-data_0"})])
def test_small_batches_are_gathered_in_the_thread_that_trains(open_store, monkeypatch, num_features, expected):
    threads, gather = set(), BagSplit.gather

    def gather_here(*arguments):
        threads.add(threading.current_thread().name)
        return gather(*arguments)

    monkeypatch.setattr(BagSplit, "gather", gather_here)
    assert len(list(loader_of(open_store([2] * 6, tile_shape=(num_features,)), num_workers=1))) == 2
    assert threads == expected


def test_small_batches_are_gathered_some_at_a_time_and_stay_in_order(open_store, monkeypatch):
    store, gathered, gather = open_store([2] * 80), [], BagSplit.gather
    monkeypatch.setattr(BagSplit, "gather", lambda *arguments: gathered.append(1) or gather(*arguments))
    loader = loader_of(store, batch_size=1)
    names = []
    for number, loaded in enumerate(loader, 1):
        assert loader.position == number
        assert len(gathered) == min(80, -(-number // loading._IN_ADVANCE) * loading._IN_ADVANCE)
        names += loaded.batch.bag_ids
    assert names == store.bags["bag_id"].tolist()


def test_a_process_without_a_bag_gets_an_empty_batch(open_store, monkeypatch):
    monkeypatch.setattr("milpath.data.loading.batch_plan.process_rank", lambda: (2, 3))
    store = open_store([2] * 4)
    plan = TrainingPlan(store.bags["label"].to_numpy(), store.num_tiles, 1)
    batches = [batch.to("cpu") for batch in loader_of(store, plan)]
    assert [len(batch.labels) for batch in batches] == [0, 0]
    assert [batch.global_size for batch in batches] == [2, 2]
    assert batches[0].tiles.shape == (0, 1, 3, 6, 6)


def test_a_bag_is_a_view_of_the_store_until_it_is_gathered(make_store):
    store = BagStore.open(make_store([3] * 5))
    assert np.shares_memory(BagSplit(store, np.arange(5), np.zeros(5, int))[2].tiles, store.tiles)


def test_host_memory_stays_flat_over_epochs_however_large_the_store(open_store):
    """Pages of the file must not pile up in the process, nor buffers of batches."""
    store = open_store([200] * 200, tile_shape=(1024,))
    assert store.tiles.nbytes > 160e6
    loader = loader_of(store, num_workers=2, batch_size=4)

    def resident():
        return int(Path("/proc/self/statm").read_text().split()[1]) * 4096

    sum(float(batch.to("cpu").tiles[0, 0, 0]) for batch in loader)
    before = resident()
    for _ in range(3):
        for batch in loader:
            batch.to("cpu")
    # A few batches more or less may be under way, 3 MB each: 19 MB were seen.
    assert resident() - before < 80e6
