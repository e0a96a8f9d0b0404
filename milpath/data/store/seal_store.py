"""Explicit acceptance of manual corrections in the tables of a store."""

import logging
from pathlib import Path

from milpath.data.store.bag_store import BagStore
from milpath.data.store.store_digests import (
    TABLES,
    read_description,
    require_counts,
    require_same_bags,
    require_unchanged_description,
    sealed_description,
)
from milpath.records.atomic_files import write_json
from milpath.records.label_table import read_written_table

_log = logging.getLogger(__name__)


def seal_store(path: str | Path) -> list[str]:
    """Update the digests of the tables in `store.json` after a manual correction.

    The bag boundaries in the tables must agree with each other and with the array, which must be unchanged: names and
    boundaries cannot be changed this way, labels and other columns can. A store of milpath 0.1.0 gets the digests that
    it lacks.

    Args:
        path: Folder of the store.

    Returns:
        The tables that were accepted.

    Raises:
        FileNotFoundError: If there is no store.
        ValueError: If `store.json` or `tiles.npy` was changed, or the tables do not fit.
    """
    path = Path(path)
    if not (path / "store.json").is_file():
        raise FileNotFoundError(f"no bag store at {path} (no store.json); give the folder of a store")
    description = read_description(path)
    require_unchanged_description(path, description)
    bags = read_written_table(path / "bags.csv", required=("bag_id", "start", "num_tiles"))
    require_counts(path, bags, description.get("num_tiles", int(bags["num_tiles"].sum())))
    require_same_bags(path, read_written_table(path / "tiles.csv", required=("bag_id",), unique=False)["bag_id"], bags)
    sealed = sealed_description(description, path)
    before = description.get("parts", {})
    changed = [name for name in TABLES if sealed["parts"][name] != before.get(name)]
    if before and sealed["parts"]["tiles.npy"] != before["tiles.npy"]:
        raise ValueError(f"{path / 'tiles.npy'} was changed after it was written; build the store again")
    BagStore(path, sealed, bags, BagStore.map_tiles(path)).verify()
    write_json(path / "store.json", sealed)
    _log.info("%s: accepted %s as they are now", path, " and ".join(changed) or "no change")
    return changed
