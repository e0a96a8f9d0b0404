"""Bags of tiles: sources, bag stores, splits, loading and augmentation."""

from importlib import import_module
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from milpath.data.datamodule import BagDataModule
    from milpath.data.sources.classic_mil import ClassicMIL
    from milpath.data.sources.colon_cancer import ColonCancer
    from milpath.data.sources.features.feature_bags import FeatureBags
    from milpath.data.sources.image_tiles import ImageTiles
    from milpath.data.sources.mnist_bags import MnistBags
    from milpath.data.sources.panda_tiles import PandaTiles
    from milpath.data.sources.synthetic import SyntheticBags
    from milpath.data.sources.synthetic_cohort import SyntheticCohort
    from milpath.data.store.seal_store import seal_store
    from milpath.data.store.stored_bags import StoredBags

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
    "SyntheticCohort",
    "seal_store",
]

# Classes that a data configuration may name; each can write itself into a bag store.
SOURCES = tuple(name for name in __all__ if name not in ("SOURCES", "BagDataModule", "seal_store"))

# Imported lazily: cutting slides or opening a store needs neither torch nor lightning.
_MODULES = {
    "BagDataModule": "datamodule", "ClassicMIL": "sources.classic_mil", "ColonCancer": "sources.colon_cancer",
    "FeatureBags": "sources.features.feature_bags", "ImageTiles": "sources.image_tiles", "MnistBags": "sources.mnist_bags",
    "PandaTiles": "sources.panda_tiles", "StoredBags": "store.stored_bags", "SyntheticBags": "sources.synthetic",
    "SyntheticCohort": "sources.synthetic_cohort", "seal_store": "store.seal_store",
}  # fmt: skip


def __getattr__(name: str) -> Any:
    if name not in _MODULES:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    return getattr(import_module(f"milpath.data.{_MODULES[name]}"), name)
