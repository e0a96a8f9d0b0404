"""What a data set is to the library: something that can describe itself and write itself into a bag store."""

from typing import Any, Protocol, runtime_checkable

import pandas as pd

from milpath.data.store.bag_store_writer import BagStoreWriter


class BagSource(Protocol):
    """A data set before it is a bag store."""

    def describe(self) -> dict[str, Any]:
        """Return plain values that differ whenever the bags would: parameters and a fingerprint of the files.

        Raises:
            FileNotFoundError: If the data are not there; the message says how to get them.
            ValueError: If they are not what they should be.
        """
        ...

    def write(self, writer: BagStoreWriter) -> None:
        """Add every bag to a store."""
        ...


@runtime_checkable
class LabelledSource(BagSource, Protocol):
    """A data set whose labels are known before its bags are read, which may take an hour and gigabytes."""

    def label_table(self) -> pd.DataFrame:
        """Return `bag_id` and the columns of the labels, a row a bag of the store."""
        ...
