"""Protocols of data sets: a source describes itself and writes itself into a bag store."""

from collections.abc import Collection
from typing import Any, Protocol, runtime_checkable

import pandas as pd

from milpath.data.store.bag_store_writer import BagStoreWriter


class BagSource(Protocol):
    """A data set that can be written into a bag store.

    A source of drawn data declares `synthetic = True`, one of anything else than tissue its own words in `warning`; both
    are kept in the store and in the card of a network, and said with each result (see `milpath.records.data_warning`).
    """

    def describe(self) -> dict[str, Any]:
        """Return plain values that identify the bags: parameters and a fingerprint of the files.

        Raises:
            FileNotFoundError: If the data do not exist; the message says how to get them.
            ValueError: If the data are invalid.
        """
        ...

    def write(self, writer: BagStoreWriter) -> None:
        """Add every bag to a store."""
        ...


@runtime_checkable
class LabelledSource(BagSource, Protocol):
    """A data set whose labels are available before its bags are read, which may take an hour and gigabytes."""

    def label_table(self) -> pd.DataFrame:
        """Return `bag_id` and the label columns, one row per bag of the store."""
        ...


@runtime_checkable
class FileSource(BagSource, Protocol):
    """A data set with files for each bag and labels in a separate table, which is read at each start.

    `describe` says what identifies the tiles, without labels: a store is built again only if the tiles change. The files of
    a bag that is left out are never opened.
    """

    def describe_labels(self) -> dict[str, Any]:
        """Return plain values that identify the label table; kept in the store, not part of its identity."""
        ...

    def bag_names(self) -> set[str]:
        """Return the names of all bags that have files or a row in the label table."""
        ...

    def label_table(self, left_out: Collection[str] = ()) -> pd.DataFrame:
        """Return `bag_id` and the label columns, one row per bag, sorted by name.

        Args:
            left_out: Bags that are neither used nor reported as missing.
        """
        ...

    def write_bags(self, writer: BagStoreWriter, table: pd.DataFrame) -> None:
        """Add the bags of a label table to a store."""
        ...
