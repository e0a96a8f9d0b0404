"""Bags of tiles: where they come from, how they are stored, split, loaded and augmented."""

from milpath.data.classic_mil import ClassicMIL
from milpath.data.colon_cancer import ColonCancer
from milpath.data.datamodule import BagDataModule
from milpath.data.feature_bags import FeatureBags
from milpath.data.image_tiles import ImageTiles
from milpath.data.mnist_bags import MnistBags
from milpath.data.panda_tiles import PandaTiles
from milpath.data.stored_bags import StoredBags
from milpath.data.synthetic import SyntheticBags

__all__ = [
    "SOURCES",
    "BagDataModule",
    "ClassicMIL",
    "ColonCancer",
    "FeatureBags",
    "ImageTiles",
    "MnistBags",
    "PandaTiles",
    "StoredBags",
    "SyntheticBags",
]

# Classes that a configuration of data may name: each writes itself into a bag store.
SOURCES = tuple(name for name in __all__ if name not in ("SOURCES", "BagDataModule"))
