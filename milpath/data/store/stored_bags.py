"""Data source for an existing bag store, such as one written by `python -m milpath.tile`."""

from pathlib import Path
from typing import Any

from milpath.data.store.bag_store import BagStore
from milpath.data.store.bag_store_writer import BagStoreWriter
from milpath.records.label_table import labelled_bags


class StoredBags:
    """Bags in an existing bag store.

    Args:
        path: Folder with `tiles.npy`, `bags.csv`, `tiles.csv` and `store.json`.
    """

    def __init__(self, path: str | Path) -> None:
        self.path = Path(path)

    def describe(self) -> dict[str, Any]:
        """Return the hash of the tiles."""
        return {"sha256": BagStore.open(self.path).description["sha256"]}

    def write(self, writer: BagStoreWriter) -> None:
        """Copy the bags into another store."""
        store = BagStore.open(self.path)
        if store.warning:
            writer.extra["warning"] = store.warning
        table = store.bags.drop(columns=["start", "num_tiles"])
        for index, (bag_id, labels) in enumerate(labelled_bags(table)):
            where = store.tile_slice(index)
            known = store.tile_rows(where).drop(columns="bag_id")
            rows = {str(name): known[name].to_numpy() for name in known}
            writer.add(bag_id, store.tiles[where], labels, rows)
