"""Feature files without a label table, as input for predictions."""

from pathlib import Path

import pandas as pd

from milpath.data.sources.features.feature_bags import fingerprint_of, write_features
from milpath.data.sources.features.feature_folder import find_feature_files
from milpath.data.splits.label_matching import named_like_data
from milpath.data.store.bag_store import BagStore
from milpath.data.store.bag_store_writer import BagStoreWriter
from milpath.records.digests import sha256_of_file
from milpath.records.label_table import read_table


def build_feature_store(
    path: Path, output: Path, labels: str | None = None, dtype: str = "float32", id_column: str | None = None
) -> dict[str, str]:
    """Write the features of every slide into a bag store.

    Args:
        path: A feature file, or a folder of them (see `find_feature_files`).
        output: Folder of the new store.
        labels: Table with one row per slide, whose columns are copied into the store; `None` if there is none.
        dtype: "float32" or "float16", as in the store that the network was trained on.
        id_column: Column of the table that names the slides.

    Returns:
        Slides that are not in the store, with the reason: the file cannot be read, or only one of file and row exists.

    Raises:
        FileNotFoundError: If there are no feature files.
        ValueError: If no slide can be read, or the slides do not come from one encoder.
    """
    files = find_feature_files(path)
    table = pd.DataFrame({"bag_id": list(files)})
    failures: dict[str, str] = {}
    if labels is not None:
        rows = read_table(labels, what="label table", id_column=id_column, id_option="id_column")
        rows = named_like_data(rows, files, Path(labels))
        failures |= {name: f"{labels} has no row of this slide" for name in files if name not in set(rows["bag_id"])}
        failures |= {name: f"no features of this slide in {path}" for name in rows["bag_id"] if name not in files}
        table = rows[rows["bag_id"].isin(files)].sort_values("bag_id", kind="stable")
    if table.empty:
        raise ValueError(f"none of the {len(files):,} slides with features in {path} has a row in {labels}")
    known = {"files": fingerprint_of(files), "labels": labels is not None, **_identity_of(labels, id_column)}
    source = {"name": "loose features", "parameters": known}
    with BagStoreWriter(output, source) as writer:
        write_features(writer, files, table, path, dtype, "skip")
    unread: dict[str, str] = writer.extra.get("failures", {})
    return failures | unread


def require_same_features(path: Path, store: BagStore, labels: str | None = None, id_column: str | None = None) -> None:
    """Refuse a store of loose features that was built from other files than the current ones.

    Args:
        path: As in `build_feature_store`, like the others.
        store: The store.
        labels: Table of the slides.
        id_column: Its column of the slides.

    Raises:
        FileExistsError: If they differ.
    """
    known = store.description["source"].get("parameters", {})
    if known.get("files") != fingerprint_of(find_feature_files(path)):
        raise FileExistsError(
            f"{store.path} was built from other features than the current ones at {path}; set another output, or "
            "overwrite=true"
        )
    for name, value in _identity_of(labels, id_column).items():
        if name in known and known[name] != value:  # a store of an earlier version does not say it
            what = "another label table, or an earlier state of it," if name == "labels_sha256" else "another id_column"
            raise FileExistsError(
                f"{store.path} was built with {what} than labels={labels} now; set another output, or overwrite=true"
            )


def _identity_of(labels: str | None, id_column: str | None) -> dict[str, str | None]:
    """Return what tells a label table from others."""
    return {"labels_sha256": None if labels is None else sha256_of_file(labels), "id_column": id_column}
