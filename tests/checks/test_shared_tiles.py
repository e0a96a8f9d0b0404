import numpy as np
import pytest

from milpath.checks.shared_tiles import MOST_BAGS, equal_bags, pairs_of, shared_tiles
from milpath.checks.slide_colours import COLOURS, colours_of_bags, mean_densities
from milpath.data.store.bag_store import BagStore
from milpath.data.store.bag_store_writer import BagStoreWriter


@pytest.fixture
def store_of(tmp_path):
    def write(bags):
        with BagStoreWriter(tmp_path / "store") as writer:
            for number, tiles in enumerate(bags):
                writer.add(f"bag_{number}", tiles, {"label": number % 2}, None)
        store = BagStore.open(tmp_path / "store")
        return store, np.arange(len(bags))

    return write


def drawn(count, seed, shape=(6, 6, 3)):
    rng = np.random.default_rng(seed)
    return rng.integers(0, 256, (count, *shape), dtype=np.uint8)


def test_bags_with_the_same_tiles_are_found(store_of):
    first, other = drawn(5, 0), drawn(5, 1)
    nearly = first.copy()
    nearly[4, 0, 0, 0] ^= 1  # one bit: a few bytes in the middle of tiles are the same
    store, rows = store_of([first, other, first.copy(), nearly, first[:4], first.copy()])
    assert equal_bags(store, rows) == [[0, 2, 5]]
    assert pairs_of([[0, 2, 5]]) == [(0, 2), (0, 5)]
    assert equal_bags(store, np.array([1, 2, 5])) == [[1, 2]]  # places among the rows


def test_features_are_compared_as_well(store_of):
    rng = np.random.default_rng(0)
    first = rng.normal(size=(3, 700)).astype(np.float32)
    store, rows = store_of([first, first.copy(), first + 1])
    assert equal_bags(store, rows) == [[0, 1]]
    assert [pair[:2] for pair in shared_tiles(store, rows)[0]] == [(0, 1)]


def test_shared_tiles_are_counted_without_padding(store_of):
    white = np.full((3, 6, 6, 3), 255, np.uint8)
    first = drawn(4, 0)
    second = np.concatenate([first[:2], drawn(1, 1), white[:1]])
    third = np.concatenate([drawn(3, 2), white])
    store, rows = store_of([first, second, third])
    pairs, left_out = shared_tiles(store, rows)
    assert [(*pair[:3], round(pair.share, 2)) for pair in pairs] == [(0, 1, 2, 0.67)]
    assert left_out == 4


def test_a_tile_of_many_bags_is_background(store_of):
    glass = drawn(1, 99)
    store, rows = store_of([np.concatenate([glass, drawn(2, number)]) for number in range(MOST_BAGS + 1)])
    assert shared_tiles(store, rows) == ([], 1)


def test_bags_of_their_own_share_nothing(store_of):
    store, rows = store_of([drawn(3, number) for number in range(6)])
    assert equal_bags(store, rows) == []
    assert shared_tiles(store, rows) == ([], 0)


def test_colours_are_densities_of_what_is_not_glass(store_of):
    assert mean_densities(np.full((2, 2, 3), 255, np.uint8)) == pytest.approx([np.nan] * 3, nan_ok=True)
    half = np.full((2, 4, 3), 255, np.uint8)
    half[:, :2] = (200, 100, 150)
    assert mean_densities(half) == pytest.approx(-np.log10(np.array([200, 100, 150]) / 255))
    pink, violet = (np.full((3, 8, 8, 3), colour, np.uint8) for colour in ((230, 120, 180), (120, 60, 160)))
    store, rows = store_of([pink, violet])
    colours = colours_of_bags(store, rows)
    assert colours.shape == (2, len(COLOURS))
    assert (colours[1] > colours[0]).all()


def test_features_have_no_colour(store_of):
    store, rows = store_of([np.zeros((2, 5), np.float32), np.ones((2, 5), np.float32)])
    assert colours_of_bags(store, rows) is None
