"""Attention-based multiple-instance learning on histopathology.

The names below are the public API. Each is loaded on first use, so `import milpath` is instant.
"""

from importlib import import_module
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from milpath.data.datamodule import BagDataModule
    from milpath.data.store.bag_store import BagStore
    from milpath.data.store.bag_store_writer import BagStoreWriter
    from milpath.drawing.montage import draw_montage
    from milpath.inference.pictures.overlays import draw_bag_overlay
    from milpath.inference.predict_bags import predict_bags
    from milpath.models import AttentionMIL, load_card, load_network, save_network
    from milpath.slides.cut_slide import cut_slide
    from milpath.slides.tiling_options import TileOptions
    from milpath.training.classifier import MILClassifier

    __version__: str

__all__ = [
    "AttentionMIL",
    "BagDataModule",
    "BagStore",
    "BagStoreWriter",
    "MILClassifier",
    "TileOptions",
    "__version__",
    "cut_slide",
    "draw_bag_overlay",
    "draw_montage",
    "load_card",
    "load_network",
    "predict_bags",
    "save_network",
]

_MODULES = {
    "AttentionMIL": "milpath.models",
    "BagDataModule": "milpath.data.datamodule",
    "BagStore": "milpath.data.store.bag_store",
    "BagStoreWriter": "milpath.data.store.bag_store_writer",
    "MILClassifier": "milpath.training.classifier",
    "TileOptions": "milpath.slides.tiling_options",
    "cut_slide": "milpath.slides.cut_slide",
    "draw_bag_overlay": "milpath.inference.pictures.overlays",
    "draw_montage": "milpath.drawing.montage",
    "load_card": "milpath.models",
    "load_network": "milpath.models",
    "predict_bags": "milpath.inference.predict_bags",
    "save_network": "milpath.models",
}


def __getattr__(name: str) -> Any:
    if name == "__version__":
        from importlib.metadata import version

        return version("milpath")
    if name not in _MODULES:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    value = globals()[name] = getattr(import_module(_MODULES[name]), name)
    return value


def __dir__() -> list[str]:
    return sorted({*globals(), *__all__})
