"""Bags of tiles: where they come from, how they are stored, split, loaded and augmented."""

from milpath.data.datamodule import BagDataModule
from milpath.data.stored_bags import StoredBags
from milpath.data.synthetic import SyntheticBags

__all__ = ["SOURCES", "BagDataModule", "StoredBags", "SyntheticBags"]

# Classes that a configuration of data may name: each writes itself into a bag store.
SOURCES = tuple(name for name in __all__ if name not in ("SOURCES", "BagDataModule"))
