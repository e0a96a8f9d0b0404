"""Bags of tiles: where they come from, how they are stored, split, loaded and augmented."""

from importlib import import_module
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from milpath.data.classic_mil import ClassicMIL
    from milpath.data.colon_cancer import ColonCancer
    from milpath.data.datamodule import BagDataModule
    from milpath.data.feature_bags import FeatureBags
    from milpath.data.image_tiles import ImageTiles
    from milpath.data.mnist_bags import MnistBags
    from milpath.data.panda_tiles import PandaTiles
    from milpath.data.store_seal import seal_store
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
    "seal_store",
]

# Classes that a configuration of data may name: each writes itself into a bag store.
SOURCES = tuple(name for name in __all__ if name not in ("SOURCES", "BagDataModule", "seal_store"))

# Loaded when first asked for: whoever cuts slides or opens a store waits for neither torch nor lightning.
_MODULES = {
    "BagDataModule": "datamodule", "ClassicMIL": "classic_mil", "ColonCancer": "colon_cancer",
    "FeatureBags": "feature_bags", "ImageTiles": "image_tiles", "MnistBags": "mnist_bags", "PandaTiles": "panda_tiles",
    "StoredBags": "stored_bags", "SyntheticBags": "synthetic",
    "seal_store": "store_seal",
}  # fmt: skip


def __getattr__(name: str) -> Any:
    if name not in _MODULES:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    return getattr(import_module(f"milpath.data.{_MODULES[name]}"), name)
