import numpy as np

from milpath.data.store.bag_store import BagStore
from milpath.data.store.bag_store_writer import BagStoreWriter
from milpath.data.store.stored_bags import StoredBags


def test_a_store_copies_itself(make_store, tmp_path):
    source = StoredBags(make_store([2, 3], tile_labels=True, provider=["x", "y"]))
    with BagStoreWriter(tmp_path / "copy") as writer:
        source.write(writer)
    original, copy = BagStore.open(source.path), BagStore.open(tmp_path / "copy")
    np.testing.assert_array_equal(original.tiles, copy.tiles)
    assert original.bags.equals(copy.bags)
    assert original.tiles_table.equals(copy.tiles_table)
    assert source.describe() == {"sha256": copy.description["sha256"]}
