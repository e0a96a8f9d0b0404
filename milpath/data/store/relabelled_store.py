"""Stores of files with labels in a separate table: found by their tiles, opened with the current labels."""

import hashlib
import io
import logging
from collections.abc import Callable, Collection, Mapping
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd

from milpath.data.sources.bag_source import FileSource
from milpath.data.store.bag_store import BagStore
from milpath.data.store.level0_positions import SLIDE_FACTS
from milpath.data.store.readable_bags import describe_failures, way_out
from milpath.data.store.store_digests import read_description
from milpath.data.store.verified_arrays import recall, remember
from milpath.records.digests import sha256_of_text
from milpath.records.label_table import OWN_PREFIX, quote_first, read_written_table

_log = logging.getLogger(__name__)
_OWN_COLUMNS = ("bag_id", "start", "num_tiles")


def parameters_of(source: FileSource, description: Mapping[str, Any]) -> dict[str, Any]:
    """Return the parameters of a source as recorded in a store: tiles and labels."""
    return {**description, **source.describe_labels()}


def find_store(
    path: Path,
    stem: str,
    description: Mapping[str, Any],
    bag_ids: Collection[str],
    is_in_store: Callable[[Path], bool] | None = None,
) -> Path | None:
    """Return the store that has the tiles of some bags; `None` if there is none.

    Args:
        path: The store of exactly these bags.
        stem: Beginning of the names of other stores of this source, which are found by content: they may have been built
            with other labels, have more bags, or be from milpath 0.1.0. Empty if there can be none.
        description: What identifies the tiles.
        bag_ids: Names of the bags.
        is_in_store: Whether a store has the values of the files, asked of stores that were made before samples were taken.
    """
    if path.exists():
        return path
    wanted = set(bag_ids)
    candidates: list[tuple[int, Path]] = []
    for folder in sorted(path.parent.glob(f"{stem}-*")) if stem else []:
        try:
            parameters = read_description(folder)["source"]["parameters"]
            different = {name for name, value in description.items() if parameters.get(name) != value}
            if different and not (different == {"samples"} and "samples" not in parameters):
                continue
            bags = set(read_written_table(folder / "bags.csv")["bag_id"])
            if not wanted <= bags or (different and (is_in_store is None or not is_in_store(folder))):
                continue
        except (OSError, ValueError, KeyError, TypeError, AttributeError):
            continue  # not a store, or a damaged one, which is not used
        candidates.append((len(bags), folder))
    return min(candidates)[1] if candidates else None


def labelled_as(
    store: BagStore,
    source: FileSource,
    description: Mapping[str, Any],
    table: pd.DataFrame,
    *,
    just_built: bool = False,
) -> BagStore:
    """Return the bags of a label table in a store that has them, with the labels of the table.

    The columns in the store are used if the label table has not changed since it was written: they may have been corrected
    (see `seal_store`).

    Args:
        store: The store.
        source: Source of the bags.
        description: What identifies the tiles.
        table: Rows of the bags, sorted by name.
        just_built: Whether the bags that could not be read have just been named.

    Raises:
        ValueError: If the store was written without some of the bags because they could not be read, and the source does
            not skip such bags.
    """
    missing = {
        name: str(why) for name, why in store.description.get("failures", {}).items() if name in set(table["bag_id"])
    }
    if missing:
        said = describe_failures(missing, len(table), store.path)
        if getattr(source, "on_error", "skip") == "fail":
            raise ValueError(said + way_out())
        if not just_built:
            _log.warning("left out: %s", said)
        table = table[~table["bag_id"].isin(missing)]
    stored = store.bags.set_index("bag_id", drop=False)
    rows = stored.loc[table["bag_id"]].reset_index(drop=True)
    # An earlier version kept such a column of a label table under its name, and read it as that of the tiles.
    taken = [name for name in SLIDE_FACTS if name in table and name not in store.description.get("slide_columns", ())]
    rows = rows.rename(columns={name: OWN_PREFIX + name for name in taken})
    parameters = store.description["source"].get("parameters", {})
    if {name: value for name, value in parameters.items() if name not in description} != source.describe_labels():
        rows = _with_labels(rows, table, store)
    changed = {"source": store.description["source"] | {"parameters": parameters_of(source, description)}}
    if len(rows) < len(store):
        changed["sha256"] = _digest_of_bags(store, np.flatnonzero(store.bags["bag_id"].isin(rows["bag_id"])))
    return store.view(rows, store.description | changed)


def _with_labels(rows: pd.DataFrame, table: pd.DataFrame, store: BagStore) -> pd.DataFrame:
    """Return rows of `bags.csv` with the columns of a label table instead of those of an earlier one."""
    # Written and read as `bags.csv` is, so that columns have the types that a store of this table would have.
    table = table.rename(columns={name: OWN_PREFIX + name for name in (*_OWN_COLUMNS[1:], *SLIDE_FACTS)})
    own = [*_OWN_COLUMNS, *store.description.get("slide_columns", ())]
    text = io.StringIO(table.to_csv(index=False))
    labels = pd.read_csv(text, dtype={"bag_id": str}, keep_default_na=False, na_values=[""])
    before = rows.drop(columns=own[1:])
    shared = [name for name in labels.columns if name in before.columns]
    differing = (labels[shared].astype(str) != before[shared].astype(str)).any(axis=1).to_numpy()
    if differing.any():
        names = rows.loc[differing, "bag_id"].tolist()
        _log.info(
            "%s has the tiles of an earlier label table: the rows of %s bags changed (%s); the new ones are used",
            store.path, f"{len(names):,}", quote_first(names),
        )  # fmt: skip
    return pd.concat([rows[own], labels.drop(columns="bag_id")], axis=1)


def _digest_of_bags(store: BagStore, indices: np.ndarray) -> str:
    """Return the hash that the array of a store of only these bags would have; computed once."""
    file = store.path / "tiles.npy"
    name = f"bags {sha256_of_text(','.join(map(str, indices.tolist())))}"
    if (known := recall(file, name)) is not None:
        return known
    before = file.stat()
    header = io.BytesIO()
    shape = (int(store.num_tiles[indices].sum()), *store.tile_shape)
    np.lib.format.write_array_header_1_0(
        header, {"descr": np.lib.format.dtype_to_descr(store.tiles.dtype), "fortran_order": False, "shape": shape}
    )
    digest = hashlib.sha256(header.getvalue())
    for index in indices.tolist():
        digest.update(store.read(index).data)
    remember(file, digest.hexdigest(), before, name)
    return digest.hexdigest()
