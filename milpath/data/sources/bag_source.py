"""Protocols of data sets: a source describes itself and writes itself into a bag store."""

from typing import Any, Protocol, runtime_checkable

import pandas as pd

from milpath.data.store.bag_store_writer import BagStoreWriter


class BagSource(Protocol):
    """A data set that can be written into a bag store."""

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
