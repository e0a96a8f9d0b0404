import numpy as np
import pytest
import torch

from milpath.data.store.bag_store import BagStore
from milpath.data.store.bag_store_writer import BagStoreWriter
from milpath.inference.predict_bags import _batches, predict_bags
from milpath.models import AttentionMIL

LENGTHS = [3, 1, 40, 2, 2, 7]


@pytest.fixture
def store(tmp_path) -> BagStore:
    rng = np.random.default_rng(0)
    with BagStoreWriter(tmp_path / "store") as writer:
        for number, length in enumerate(LENGTHS):
            writer.add(f"bag_{number}", rng.standard_normal((length, 8), np.float32), {"label": number % 2})
    return BagStore.open(tmp_path / "store")


@pytest.mark.parametrize("batch_size", [None, 1, 4])
def test_the_size_of_a_batch_changes_no_number(store, batch_size):
    torch.manual_seed(0)
    network = AttentionMIL(encoder={"name": "linear", "num_features": 8, "hidden_dims": [4]}).eval()
    predicted = list(predict_bags(network, store, "binary", batch_size=batch_size))
    assert [bag.bag_id for bag in predicted] == [f"bag_{number}" for number in range(6)]
    assert [len(bag.attention) for bag in predicted] == LENGTHS
    for bag in predicted:
        with torch.no_grad():
            alone = network(torch.from_numpy(store.read(bag.position))[None])
        np.testing.assert_allclose(bag.probabilities[1], torch.sigmoid(alone.logits)[0, 0], atol=1e-6)
        np.testing.assert_allclose(bag.attention, alone.attention[0], atol=1e-6)


def test_a_batch_holds_many_short_bags_or_one_that_is_long(store, monkeypatch):
    monkeypatch.setattr("milpath.inference.predict_bags._BATCH_BYTES", 4 * 8 * 12)  # twelve tiles
    assert list(_batches(store, [0, 1, 2, 3, 4, 5], None)) == [[0, 1], [2], [3, 4], [5]]
    assert list(_batches(store, [0, 1, 2, 3, 4, 5], 4)) == [[0, 1, 2, 3], [4, 5]]
    assert list(_batches(store, [], None)) == []
    monkeypatch.setattr("milpath.inference.predict_bags._MAX_BATCH_SIZE", 1)
    assert list(_batches(store, [0, 1], None)) == [[0], [1]]


def test_bags_that_are_done_stay_part_of_their_batches(store):
    torch.manual_seed(0)
    network = AttentionMIL(encoder={"name": "linear", "num_features": 8, "hidden_dims": [64]}).eval()
    whole = list(predict_bags(network, store, "binary", batch_size=4))
    rest = list(predict_bags(network, store, "binary", batch_size=4, done={0, 1, 2, 5}))
    assert [bag.position for bag in rest] == [3, 4]
    assert list(predict_bags(network, store, "binary", done=range(6))) == []
    for bag in rest:
        np.testing.assert_array_equal(bag.probabilities, whole[bag.position].probabilities)
        np.testing.assert_array_equal(bag.attention, whole[bag.position].attention)


@pytest.mark.gpu
def test_a_gpu_predicts_what_the_cpu_does(store):
    torch.manual_seed(0)
    network = AttentionMIL(encoder={"name": "linear", "num_features": 8, "hidden_dims": [4]}).eval()
    expected = list(predict_bags(network, store, "binary", batch_size=4))
    for bag, reference in zip(
        predict_bags(network, store, "binary", batch_size=4, device="cuda"), expected, strict=True
    ):
        np.testing.assert_allclose(bag.probabilities, reference.probabilities, atol=1e-4)
        np.testing.assert_allclose(bag.attention, reference.attention, atol=1e-4)
