import numpy as np
import pytest
import torch

from milpath.data.loading.augmentation import TileAugmentation
from milpath.data.store.bag_store import BagStore
from milpath.data.store.bag_store_writer import BagStoreWriter
from milpath.inference.faithfulness import MeasureOptions, measure_bags, question_of
from milpath.metrics.faithfulness.perturbation_curves import area
from milpath.models import AttentionMIL
from tests.inference.faithfulness.bags_with_truth import CARD, NUM_TILES, MarkerNetwork, write_planted

SURE = 1 / (1 + np.exp(-4.0))


@pytest.fixture(scope="module")
def store(tmp_path_factory):
    return write_planted(tmp_path_factory.mktemp("planted") / "store", 6)


def measured(network, store, **options):
    question = question_of(CARD)
    rows = list(
        measure_bags(
            [network], store, range(len(store)), [question], MeasureOptions(**options), tile_labels=store.tile_labels
        )
    )
    assert all(len(each) == 1 for each in rows)
    return [each[0] for each in rows]


def test_where_one_tile_decides_the_answer_falls_as_it_is_removed_and_not_before(store):
    for row in measured(MarkerNetwork(), store):
        assert row.explained == "malignant"
        assert row.num_tiles == NUM_TILES
        np.testing.assert_allclose(row.values, [SURE, 4.0], rtol=1e-6)
        # Without the first tile of the order the marker is gone; with it alone the answer is whole.
        np.testing.assert_allclose(row.deletion["attention"][0], [SURE] + [1 - SURE] * 19, rtol=1e-6)
        np.testing.assert_allclose(row.insertion["attention"][0], [SURE] * 20, rtol=1e-6)
        np.testing.assert_allclose(row.deletion["attention"][1], [4.0] + [-4.0] * 19, rtol=1e-6)
        for order in ("occlusion", "single tile", "gradient x input"):
            np.testing.assert_allclose(row.deletion[order], row.deletion["attention"], rtol=1e-6)
        assert set(row.truth.values()) == {1.0}
        assert not row.flat


def test_a_random_order_loses_the_tile_as_often_as_the_share_of_tiles(store):
    rows = measured(MarkerNetwork(), store, num_random=200)
    found = np.mean([row.deletion["random"][0] for row in rows], axis=0)
    expected = SURE + (1 - 2 * SURE) * np.arange(20) / 20
    assert np.abs(found - expected).max() < 0.05


def test_random_orders_of_a_short_bag_gain_nothing(tmp_path):
    with BagStoreWriter(tmp_path / "store") as writer:
        tiles = np.zeros((5, 6), np.float32)
        tiles[0, 0] = 1
        writer.add("short", tiles, {"label": 1})
    options = MeasureOptions(num_random=1000)
    (row,) = next(measure_bags([MarkerNetwork()], BagStore.open(tmp_path / "store"), [0], [question_of(CARD)], options))
    # Parts rounded up on both sides had 0.126 of the height here.
    assert abs(area(row.insertion["random"][0]) - area(row.deletion["random"][0])) < 0.04


def test_the_same_seed_gives_the_same_numbers_whatever_bags_come_before(store):
    question, options = question_of(CARD), MeasureOptions(num_random=2)
    alone = next(measure_bags([MarkerNetwork()], store, [4], [question], options))[0]
    among = list(measure_bags([MarkerNetwork()], store, range(6), [question], options))[4][0]
    np.testing.assert_array_equal(alone.deletion["random"], among.deletion["random"])
    other = next(measure_bags([MarkerNetwork()], store, [4], [question], MeasureOptions(num_random=2, seed=1)))[0]
    assert not np.array_equal(alone.deletion["random"], other.deletion["random"])


def test_equal_attention_is_flat_and_its_order_is_random(store):
    rows = measured(MarkerNetwork(sharpness=0.0), store)
    assert all(row.flat for row in rows)
    assert all(row.truth["attention"] == 0.5 for row in rows)
    # The tie is broken by chance, not by the order in the store.
    places = {int(np.argmin(row.deletion["attention"][1] > 0)) for row in rows}
    assert len(places) > 2


def test_networks_that_attend_alike_agree_and_others_do_not(store):
    question, options = question_of(CARD), MeasureOptions()
    networks = [MarkerNetwork(1), MarkerNetwork(1, 3.0), MarkerNetwork(1)]
    rows = next(measure_bags(networks, store, [0], [question] * 3, options))
    assert [row.network for row in rows] == [0, 1, 2]
    assert rows[0].between["spearman"] == pytest.approx(1)
    assert rows[0].between["kendall"] == pytest.approx(1)
    assert rows[0].between["overlap"] == pytest.approx(1)
    assert rows[1].between == {}  # said once per bag
    other = next(measure_bags([MarkerNetwork(1), MarkerNetwork(2)], store, [0], [question] * 2, options))
    assert other[0].between["spearman"] < 0.7


def test_bags_of_one_tile_are_left_out_and_bad_features_refused(tmp_path):
    with BagStoreWriter(tmp_path / "store") as writer:
        writer.add("one", np.ones((1, 6), np.float32), {"label": 0})
        writer.add("bad", np.full((3, 6), np.nan, np.float32), {"label": 0})
    store = BagStore.open(tmp_path / "store")
    question = question_of(CARD)
    assert list(measure_bags([MarkerNetwork()], store, [0], [question], MeasureOptions())) == []
    with pytest.raises(ValueError, match="bag 'bad'"):
        list(measure_bags([MarkerNetwork()], store, [1], [question], MeasureOptions()))


def test_long_bags_are_taken_apart_in_shares_but_not_tile_by_tile(store):
    row = measured(MarkerNetwork(), store, max_passes=10)[0]
    assert set(row.deletion) == {"attention", "gradient x input", "random"}


def test_attention_to_augmented_tiles_is_compared_with_that_to_the_tiles(tmp_path):
    with BagStoreWriter(tmp_path / "store") as writer:
        writer.add("bag", np.random.default_rng(0).integers(0, 255, (9, 16, 16, 3), np.uint8), {"label": 0})
    store = BagStore.open(tmp_path / "store")
    torch.manual_seed(0)
    network = AttentionMIL(encoder={"name": "tile_cnn", "tile_size": 16}).eval()
    kinds = {}
    for kind in ("none", "full"):
        augment = TileAugmentation(kind, 0.5)
        options = MeasureOptions(augment=lambda tiles, generator, augment=augment: augment(tiles, generator))
        kinds[kind] = next(measure_bags([network], store, [0], [question_of(CARD)], options))[0].augmented
    assert kinds["none"]["spearman"] == pytest.approx(1)
    assert kinds["none"]["change"] == pytest.approx(0, abs=1e-6)
    assert kinds["full"]["spearman"] < 0.999
    assert kinds["full"]["change"] > 1e-6


@pytest.mark.parametrize(
    "options", [{"share": 0.0}, {"share": 1.0}, {"num_random": 0}, {"num_augmented": 0}, {"seed": -1}]
)
def test_options_out_of_range_are_refused(options):
    with pytest.raises(ValueError, match=next(iter(options))):
        MeasureOptions(**options)
