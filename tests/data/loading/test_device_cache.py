import pytest
import torch

from milpath.data.loading.device_cache import DeviceCache

CPU = torch.device("cpu")


def test_auto_and_never_leave_a_cpu_alone(open_store):
    store = open_store([2, 3])
    for mode in ("auto", "never"):
        cache = DeviceCache(store, mode)
        cache.prepare(CPU)
        assert cache.tiles is None


def test_always_holds_every_tile(open_store):
    store = open_store([2, 3, 4])
    cache = DeviceCache(store, "always")
    cache.prepare(CPU)
    assert torch.equal(cache.tiles, torch.from_numpy(store.tiles.copy()))
    rows = torch.tensor([[3, 1], [8, 0]])
    assert torch.equal(cache.take(rows), cache.tiles[rows])


def test_a_device_under_another_name_copies_nothing_again(open_store):
    """A loop of one's own says "cuda" and Lightning "cuda:0"; on a CPU "cpu:0" is such a name."""
    cache = DeviceCache(open_store([2, 3]), "always")
    cache.prepare(CPU)
    tiles = cache.tiles
    cache.prepare(torch.device("cpu:0"))
    cache.prepare(CPU)
    assert cache.tiles is tiles


def test_an_unknown_mode_is_refused(open_store):
    with pytest.raises(ValueError, match=r"^data.device_cache is 'yes'; it must be one of auto, never, always$"):
        DeviceCache(open_store([1, 1]), "yes")


@pytest.mark.gpu
def test_auto_caches_on_a_gpu_where_the_store_fits(open_store):
    cache = DeviceCache(open_store([2, 3]), "auto")
    cache.prepare(torch.device("cuda", 0))
    assert cache.tiles is not None
    assert cache.tiles.is_cuda


@pytest.mark.gpu
def test_a_gpu_keeps_its_cache_whatever_it_is_called(open_store):
    store = open_store([2, 3])
    cache = DeviceCache(store, "auto")
    cache.prepare(torch.device("cuda"))
    tiles = cache.tiles
    cache.prepare(torch.device("cuda", 0))
    assert cache.tiles is tiles
    assert torch.equal(tiles.cpu(), torch.from_numpy(store.tiles.copy()))
